"""How parameters enter a model: the axes of those whose names do not tell them, read off the program of one batch."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal as Constant

from invariant_sharpness.adapters.data import PASS_SEED, Dataset
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness_jax.engine import JaxEngine
from invariant_sharpness_jax.walk import CALLS

_KEEPING = {"convert_element_type", "copy", "copy_p"}


class Operand(NamedTuple):
    """A parameter with its axes in another order."""

    name: str
    axes: tuple[int, ...]


Operands = dict[Any, Operand]
"""Which variables of a program are parameters."""


def uses(engine: JaxEngine, names: frozenset[str], dataset: Dataset[Any]) -> tuple[ParameterGroup, ...]:
    """Describe those of the named parameters that enter in matrix products or convolutions, always in the same way.

    Nothing is computed: the model is traced once, on the first batch.
    """
    with engine.random_state(PASS_SEED, dataset.batches.source):
        batch = next(iter(dataset))
    arrays = engine.parameters()
    with engine.at(arrays) as point:
        program = jax.make_jaxpr(lambda given: point.traced(given, batch))(arrays)
    found: dict[str, set[ParameterGroup]] = {}
    operands = {
        variable: Operand(name, tuple(range(arrays[name].ndim)))
        for variable, name in zip(program.jaxpr.invars, sorted(arrays), strict=True)
        if name in names
    }
    _walk(program.jaxpr, operands, {name: tuple(arrays[name].shape) for name in names}, found)
    return tuple(group for groups in found.values() if len(groups) == 1 for group in groups)


def _walk(
    program: Any, operands: Operands, shapes: Mapping[str, tuple[int, ...]], found: dict[str, set[ParameterGroup]]
) -> None:
    for equation in program.eqns:
        given = [None if isinstance(variable, Constant) else operands.get(variable) for variable in equation.invars]
        name = equation.primitive.name
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            inner = getattr(inner, "jaxpr", inner)
            entering = {v: own for v, own in zip(inner.invars, given, strict=True) if own is not None}
            _walk(inner, entering, shapes, found)
        elif name == "transpose" and given[0] is not None:
            axes = tuple(given[0].axes[axis] for axis in equation.params["permutation"])
            operands[equation.outvars[0]] = Operand(given[0].name, axes)
        elif name in _KEEPING and given[0] is not None:
            operands[equation.outvars[0]] = given[0]
        for group in _described(name, equation.params, given, shapes):
            found.setdefault(group.name, set()).add(group)


def _described(
    name: str, parameters: Mapping[str, Any], given: list[Operand | None], shapes: Mapping[str, tuple[int, ...]]
) -> list[ParameterGroup]:
    if name == "conv_general_dilated" and given[1] is not None:
        outputs, inputs, *_ = parameters["dimension_numbers"].rhs_spec
        own, groups = given[1], parameters["feature_group_count"]
        axes = (own.axes[outputs],), (own.axes[inputs],)
        return [ParameterGroup(own.name, shapes[own.name], "convolution", *axes, groups)]
    if name != "dot_general":
        return []
    (contracted, batched) = parameters["dimension_numbers"]
    return [
        _factor(own, shapes[own.name], contracted[place], batched[place])
        for place, own in enumerate(given)
        if own is not None
    ]


def _factor(own: Operand, shape: tuple[int, ...], contracted: Any, batched: Any) -> ParameterGroup:
    """A factor of a product of matrices, or of one product for each of its own batch axes, as those of experts are."""
    inputs, stacked = ([own.axes[axis] for axis in axes] for axes in (contracted, batched))
    outputs = [axis for axis in range(len(shape)) if axis not in {*inputs, *stacked}]
    groups = prod(shape[axis] for axis in stacked)
    return ParameterGroup(own.name, shape, "matrix", (*stacked, *outputs), tuple(inputs), groups)
