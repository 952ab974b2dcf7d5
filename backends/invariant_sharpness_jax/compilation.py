"""Functions of the parameters, compiled: in full precision, with results where the parameters are, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import jax
from jax.sharding import NamedSharding

from invariant_sharpness.errors import InvariantSharpnessError, ModelError
from invariant_sharpness_jax.modes import FORWARD, REVERSE, Mode, lacks_forward_mode
from invariant_sharpness_jax.trees import Arrays

P = ParamSpec("P")
T = TypeVar("T")

OfArrays = Callable[Concatenate[Arrays, P], T]
"""A function whose first argument is arrays by name."""

InMode = Callable[Concatenate[Mode, Arrays, P], T]
"""The same after how derivatives along a direction are computed."""

Layout = tuple[tuple[str, NamedSharding], ...]
"""How the arrays of these names are spread over a mesh of devices."""


class Compiled(Generic[P, T]):
    """A compiled function, with products of float32 matrices in float32 instead of an accelerator's shorter type.

    Arrays among the results that bear the name of one of the arguments are sharded as that one is: left to itself,
    the compiler may put all of a gradient on every device.

    Parameters
    ----------
    function
        The function; its first argument is arrays by name.
    """

    def __init__(self, function: OfArrays[P, T]) -> None:
        def inner(layout: Layout, arrays: Arrays, *arguments: P.args, **options: P.kwargs) -> T:
            return _laid_out(function(arrays, *arguments, **options), layout)

        self._inner = jax.jit(inner, static_argnums=0)

    def __call__(self, arrays: Arrays, /, *arguments: P.args, **options: P.kwargs) -> T:
        with jax.default_matmul_precision("highest"):
            result: T = self._inner(_layout(arrays), arrays, *arguments, **options)
        return result

    def form(self, arrays: Arrays, /, *arguments: P.args, **options: P.kwargs) -> Any:
        """Return shapes and dtypes of the results. Nothing is computed, and what has been traced is not traced again."""
        with jax.default_matmul_precision("highest"):
            return self._inner.eval_shape(_layout(arrays), arrays, *arguments, **options)


def differentiated(function: OfArrays[P, T]) -> OfArrays[P, T]:
    """Compile ``function``, which takes derivatives of the model.

    Raises
    ------
    ModelError
        When called, if JAX cannot differentiate what is in it.
    """
    return _explained(function, [Compiled(function)])


def form_of_derivatives(function: OfArrays[P, T]) -> OfArrays[P, Any]:
    """Return what says shapes and dtypes of the results of ``function``, which takes derivatives of the model. Nothing is computed.

    Raises
    ------
    ModelError
        When called, if JAX cannot differentiate what is in it.
    """
    return _explained(function, [Compiled(function).form])


def differentiated_along(function: InMode[P, T]) -> OfArrays[P, T]:
    """Compile ``function``, which takes derivatives along directions: in forward mode, or by reverse passes where that is not had.

    Raises
    ------
    ModelError
        When called, if JAX cannot differentiate what is in it.
    """
    return _explained(function, [_in_mode(function, mode) for mode in (FORWARD, REVERSE)])


def _in_mode(function: InMode[P, T], mode: Mode) -> Compiled[P, T]:
    def compiled(arrays: Arrays, /, *arguments: P.args, **options: P.kwargs) -> T:
        return function(mode, arrays, *arguments, **options)

    return Compiled(compiled)


def _explained(function: Callable[..., Any], programs: Sequence[OfArrays[P, T]]) -> OfArrays[P, T]:
    """The first of the programs that can be differentiated; which one it is, is remembered."""
    left = list(programs)

    @wraps(function)
    def call(arrays: Arrays, /, *arguments: P.args, **options: P.kwargs) -> T:
        try:
            return left[0](arrays, *arguments, **options)
        except InvariantSharpnessError:
            raise
        except (TypeError, ValueError, NotImplementedError) as error:
            if len(left) > 1 and lacks_forward_mode(error):
                del left[0]
                return call(arrays, *arguments, **options)
            msg = (
                f"JAX cannot differentiate this model: {type(error).__name__}: {error}. Replace that operation by one with "
                f"two derivatives (lax.scan for lax.while_loop, jax.numpy for numpy)"
            )
            raise ModelError(msg) from error

    return call


def _layout(arrays: Arrays) -> Layout:
    return tuple((name, array.sharding) for name, array in arrays.items() if isinstance(array.sharding, NamedSharding))


def _laid_out(results: T, layout: Layout) -> T:
    shardings = dict(layout)

    def place(path: tuple[Any, ...], array: jax.Array) -> jax.Array:
        sharding = shardings.get(getattr(path[-1], "key", "")) if path else None
        return array if sharding is None else jax.lax.with_sharding_constraint(array, sharding)

    placed: T = jax.tree_util.tree_map_with_path(place, results)
    return placed
