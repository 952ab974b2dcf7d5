"""Trees of parameters: every leaf gets the name of its path, and is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from invariant_sharpness.errors import ModelError, NonFiniteError

Arrays = dict[str, jax.Array]

NEEDS_64_BITS = (
    'JAX is in its 32-bit mode, in which it rounds float64 to float32: call jax.config.update("jax_enable_x64", True) '
    "before making any array"
)


@dataclass(frozen=True, slots=True)
class Structure:
    """The form of a tree, and the names of its leaves.

    Parameters
    ----------
    names
        The path of each leaf, joined by dots, in JAX's order.
    form
        The tree without its leaves.
    """

    names: tuple[str, ...]
    form: Any

    def tree(self, arrays: Mapping[str, Any]) -> Any:
        """The user's tree with these arrays."""
        return self.form.unflatten([arrays[name] for name in self.names])


def named_leaves(tree: Any) -> tuple[dict[str, Any], Structure]:
    """The leaves by name, and how to put them together again.

    Raises
    ------
    ModelError
        If there is no leaf, or two have the same name.
    """
    leaves, form = jax.tree_util.tree_flatten_with_path(tree)
    names = tuple(jax.tree_util.keystr(path, simple=True, separator=".") or "parameters" for path, _ in leaves)
    if not names:
        msg = "parameters has no leaf: there is nothing to measure; pass the tree of arrays that apply takes"
        raise ModelError(msg)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        msg = f"two parameters have the path {twice!r}: leave the dots out of the keys"
        raise ModelError(msg)
    return dict(zip(names, (leaf for _, leaf in leaves), strict=True)), Structure(names, form)


def checked_arrays(leaves: Mapping[str, Any], dtype: str | None) -> Arrays:
    """The leaves as JAX arrays; with ``dtype``, copies in that precision.

    Raises
    ------
    ModelError
        If a leaf is not an array of real floating-point numbers, or has been deleted, or its precision is not to be had.
    NonFiniteError
        If a leaf has NaN or infinite entries; names it.
    """
    if dtype not in (None, "float32", "float64"):
        msg = f'dtype={dtype!r} is not known: take "float32" or "float64"'
        raise ModelError(msg)
    if dtype == "float64" and not _has_64_bits():
        raise ModelError(NEEDS_64_BITS)
    require_alive(leaves)
    arrays = {name: _checked(name, leaf, dtype) for name, leaf in leaves.items()}
    for name, wrong in _count_non_finite(arrays).items():
        if wrong:
            msg = f"parameter {name!r} has {wrong} entries that are NaN or infinite: load a checkpoint that is finite"
            raise NonFiniteError(msg)
    return arrays


def arrays_of_form(tree: Any, structure: Structure, forms: Mapping[str, jax.ShapeDtypeStruct]) -> Arrays:
    """The leaves of another tree, which has to have this structure, these shapes and these types.

    Raises
    ------
    ModelError, NonFiniteError
        Name the leaf that is wrong.
    """
    leaves, found = named_leaves(tree)
    if found != structure:
        msg = f"the tree has the leaves {', '.join(found.names)}, instead of {', '.join(structure.names)}"
        raise ModelError(msg)
    arrays = checked_arrays(leaves, None)
    for name, form in forms.items():
        array = arrays[name]
        if array.shape != form.shape or array.dtype != form.dtype:
            msg = (
                f"parameter {name!r} has shape {array.shape} and dtype {array.dtype}, instead of {form.shape} and "
                f"{form.dtype}"
            )
            raise ModelError(msg)
    return arrays


def require_alive(arrays: Mapping[str, Any]) -> None:
    """Raise unless the arrays are there: those of which a compiled step was given the memory are not.

    Raises
    ------
    ModelError
        Names the parameter, and what to pass in its place.
    """
    for name, array in arrays.items():
        if isinstance(array, jax.Array) and array.is_deleted():
            msg = (
                f"parameter {name!r} was donated to a compiled step (donate_argnums), which has deleted its array: pass the parameters that the "
                f"step returned, to an oracle that is there by Moved(oracle, oracle.from_tree(parameters))"
            )
            raise ModelError(msg)


@jax.jit
def added(total: Arrays, part: Arrays) -> Arrays:
    """The sum, array by array."""
    return jax.tree.map(jnp.add, total, part)


def like(arrays: Arrays, vector: Arrays) -> Arrays:
    """Return the vector in the dtypes of the parameters, as tangents have to be."""
    return {name: jnp.asarray(vector[name], dtype=array.dtype) for name, array in arrays.items()}


@jax.jit
def _count_non_finite(arrays: Arrays) -> dict[str, jax.Array]:
    return {name: jnp.sum(~jnp.isfinite(array)) for name, array in arrays.items()}


def _has_64_bits() -> bool:
    """Whether JAX keeps float64, asked without setting anything."""
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64


def _checked(name: str, leaf: Any, dtype: str | None) -> jax.Array:
    if not isinstance(leaf, (jax.Array, np.ndarray)):
        msg = f"parameter {name!r} is a {type(leaf).__name__}, but parameters are arrays: convert it by jnp.asarray"
        raise ModelError(msg)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        msg = (
            f"parameter {name!r} has dtype {leaf.dtype}, but curvature needs real floating-point parameters: keep "
            f"counters and masks out of the tree, and split complex parameters into real and imaginary parts"
        )
        raise ModelError(msg)
    if dtype is None and leaf.dtype.itemsize < 2:
        msg = f'parameter {name!r} has dtype {leaf.dtype}: pass dtype="float32" to measure a copy in that precision'
        raise ModelError(msg)
    if dtype is None and leaf.dtype == np.float64 and not _has_64_bits():
        msg = f'parameter {name!r} has dtype float64, but {NEEDS_64_BITS}, or pass dtype="float32"'
        raise ModelError(msg)
    return jnp.asarray(leaf, dtype=dtype)
