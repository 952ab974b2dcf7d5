"""How parameters enter a model: the axes of those whose names do not tell them, read off the program of one batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.extend.core import Literal as Constant

from invariant_sharpness.adapters.data import PASS_SEED, Dataset
from invariant_sharpness.parameters.uses import Operand, Use, as_factor, as_kernel, as_table, told_alike
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness_jax.engine import JaxEngine
from invariant_sharpness_jax.walk import CALLS

_RESHAPING = {"reshape", "squeeze", "broadcast_in_dim"}
_KEEPING = {"convert_element_type", "copy", "copy_p", "rev"}

Operands = dict[Any, Operand]
"""Which variables of a program are parameters."""


def uses(engine: JaxEngine, names: frozenset[str], dataset: Dataset[Any]) -> tuple[ParameterGroup, ...]:
    """Describe those of the named parameters that enter in matrix products, convolutions or tables, always in the same way.

    Nothing is computed: the model is traced once, on the first batch.
    """
    with engine.random_state(PASS_SEED, dataset.batches.source):
        batch = next(iter(dataset))
    arrays = engine.parameters()
    with engine.at(arrays) as point:
        program = jax.make_jaxpr(lambda given: point.traced(given, batch))(arrays)
    operands = {
        variable: Operand.of(name, arrays[name].shape)
        for variable, name in zip(program.jaxpr.invars, sorted(arrays), strict=True)
    }
    return told_alike(_walk(program.jaxpr, operands), names)


def _walk(program: Any, operands: Operands) -> Iterator[Use]:
    """Follow the parameters through a program and those that it calls."""
    for equation in program.eqns:
        given = [None if isinstance(variable, Constant) else operands.get(variable) for variable in equation.invars]
        if not any(given):
            continue
        name = equation.primitive.name
        if name in CALLS or name == "scan":
            yield from _walk(*_called(equation, given))
        elif given[0] is not None and (moved := _rearranged(name, equation, given[0])) is not None:
            operands[equation.outvars[0]] = moved
        else:
            yield from _described(name, equation.params, given)


def _called(equation: Any, given: list[Operand | None]) -> tuple[Any, Operands]:
    """The inner program, and the parameters in it; of those of a loop, which take slices, what is the same at every step."""
    name, parameters = equation.primitive.name, equation.params
    inner = parameters[CALLS.get(name, "jaxpr")]
    inner = getattr(inner, "jaxpr", inner)
    whole = parameters["num_consts"] if name == "scan" else len(given)
    pairs = zip(inner.invars[:whole], given[:whole], strict=True)
    return inner, {variable: own for variable, own in pairs if own is not None}


def _rearranged(name: str, equation: Any, own: Operand) -> Operand | None:
    """The same parameter in another layout."""
    if name in _KEEPING:
        return own
    if name == "transpose":
        return own.transposed(equation.params["permutation"])
    if name in _RESHAPING and equation.invars[0].aval.size == equation.outvars[0].aval.size:
        before, after = (variable.aval.shape for variable in (equation.invars[0], equation.outvars[0]))
        return own if before == after else own.reshaped(after)
    return None


def _described(name: str, parameters: Mapping[str, Any], given: list[Operand | None]) -> Iterator[Use]:
    """What an operation uses parameters as. Where two are multiplied, that tells nothing of the axes of a layer."""
    table, kernel = given[0], given[1] if len(given) > 1 else None
    if name == "dot_general":
        (contracted, batched) = parameters["dimension_numbers"]
        alone = len([own for own in given if own is not None]) == 1
        for place, own in enumerate(given):
            if own is not None:
                use = _factor(own, contracted[place], batched[place])
                yield use if alone else (own.name, None)
    elif name == "conv_general_dilated" and kernel is not None:
        outputs, inputs, *_ = (kernel.axes[axis] for axis in parameters["dimension_numbers"].rhs_spec)
        yield as_kernel(kernel.name, kernel.shape, outputs, inputs, parameters["feature_group_count"])
    elif name == "gather" and table is not None and _is_lookup(parameters, table):
        yield as_table(table.name, table.shape, *table.axes)


def _factor(own: Operand, contracted: Any, batched: Any) -> Use:
    free = [run for place, run in enumerate(own.axes) if place not in {*contracted, *batched}]
    stacked, inputs = ([own.axes[place] for place in places] for places in (batched, contracted))
    return as_factor(own.name, own.shape, stacked, free, inputs)


def _is_lookup(parameters: Mapping[str, Any], own: Operand) -> bool:
    """Whether whole rows of a table are gathered."""
    if [len(run) for run in own.axes] != [1, 1] or parameters["dimension_numbers"].start_index_map != (0,):
        return False
    return bool(tuple(parameters["slice_sizes"]) == (1, own.shape[own.axes[1][0]]))
