"""Models in half precision compute as they are; everything that is added up is in single precision.

The vectors of such a parameter are in float32, which holds every value of bfloat16 and float16 exactly. They are rounded
where the model sees them, as a part of its program: derivatives pass through the rounding as if it were not there.

Backwards, what comes to a bias from all examples is added up, and so is what comes to a row of a table from all its occurrences.
Compiled for a CPU, both happen in the parameter's own type, where a sum of more than a few hundred terms stands still: 4096
equal ones can give a quarter of what they should in bfloat16. Such sums are made in single precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.extend.core import Literal as Constant

from invariant_sharpness_jax.trees import Arrays

_SPREADING = {"broadcast_in_dim", "gather"}
_ELEMENTWISE = {"add", "sub", "mul", "div", "max", "min"}
"""With operands of different shapes these too use one number several times, and so add up what comes back to it."""

_WITH_PROGRAMS = {"jit", "pjit", "closed_call", "checkpoint", "remat2", "scan", "cond"}

Function = Callable[..., jax.Array]


def held(array: jax.Array) -> jax.Array:
    """The array in the type in which it is held: float32, if its own is shorter; itself, if it is not."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def is_half(dtypes: dict[str, jnp.dtype]) -> bool:
    """Whether any of them is held in a longer type than it has."""
    return any(dtype.itemsize < 4 for dtype in dtypes.values())


def model_rounding(dtypes: dict[str, jnp.dtype]) -> float:
    """Unit of rounding of the least precise of them."""
    return max(float(jnp.finfo(dtype).eps) for dtype in dtypes.values())


def rounded(arrays: Arrays, dtypes: dict[str, jnp.dtype]) -> Arrays:
    """The arrays in the model's own types."""
    return {name: array.astype(dtypes[name]) for name, array in arrays.items()}


def with_exact_sums(function: Function) -> Function:
    """The function with numbers spread over the examples in single precision, and the result rounded: that changes no value.

    Its program is read off its jaxpr, and run again equation by equation.
    """

    def run(*arguments: Any) -> jax.Array:
        closed = jax.make_jaxpr(function)(*arguments)
        (result,) = _evaluate(closed.jaxpr, closed.consts, *jax.tree.leaves(arguments))
        return result

    return run


def _evaluate(program: Jaxpr, constants: Sequence[Any], *arguments: Any) -> list[Any]:
    values: dict[Any, Any] = dict(zip((*program.constvars, *program.invars), (*constants, *arguments), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Constant) else values[atom]

    for equation in program.eqns:
        results = _apply(equation, [read(atom) for atom in equation.invars])
        values |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in program.outvars]


def _apply(equation: Any, operands: list[Any]) -> list[Any]:
    primitive, options = equation.primitive, equation.params
    if _spreads(primitive.name, operands):
        longer = [held(o) if jnp.issubdtype(o.dtype, jnp.floating) else o for o in map(jnp.asarray, operands)]
        return [primitive.bind(*longer, **options).astype(equation.outvars[0].aval.dtype)]
    if primitive.name in _WITH_PROGRAMS:
        options = {name: _rewritten(option) for name, option in options.items()}
    results = primitive.bind(*operands, **primitive.get_bind_params(options))
    return list(results) if primitive.multiple_results else [results]


def _spreads(name: str, operands: list[Any]) -> bool:
    return name in _SPREADING or (name in _ELEMENTWISE and len({jnp.shape(operand) for operand in operands}) > 1)


def _rewritten(option: Any) -> Any:
    """An equation's own program with exact sums; anything else as it is."""
    if isinstance(option, ClosedJaxpr):
        return jax.make_jaxpr(partial(_evaluate, option.jaxpr, option.consts))(*option.in_avals)
    if isinstance(option, Jaxpr):
        return jax.make_jaxpr(partial(_evaluate, option, ()))(*(variable.aval for variable in option.invars)).jaxpr
    return tuple(map(_rewritten, option)) if type(option) is tuple else option
