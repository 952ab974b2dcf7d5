"""From a batch, as users have it, to arrays of inputs and targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from invariant_sharpness.data import leaves, map_leaves
from invariant_sharpness.errors import DataError, LossError


class Batch(NamedTuple):
    """Inputs, an array or a tree of arrays, and targets; the first axis of both counts examples."""

    inputs: Any
    targets: jax.Array


def to_batch(batch: Any, dtype: Any) -> Batch:
    """The batch as JAX arrays; those of floating-point numbers in ``dtype``.

    Raises
    ------
    DataError
        If the batch is neither ``(inputs, targets)`` nor a dictionary with ``"labels"``, or holds something
        that is not an array or does not fit into JAX's integers.
    """
    inputs, targets = _split(batch)
    return Batch(map_leaves(lambda leaf: _to_array(leaf, dtype), inputs), _to_array(targets, dtype))


def batch_size(batch: Batch) -> int:
    """Number of examples: the length of the first array that has one.

    Raises
    ------
    DataError
        If there is no such array.
    """
    sizes = [leaf.shape[0] for leaf in leaves(batch) if leaf.ndim > 0]
    if not sizes:
        msg = "a batch holds no array with an axis of examples: yield (inputs, targets) or a dictionary of arrays"
        raise DataError(msg)
    return int(sizes[0])


def take(batch: Batch, count: int) -> Batch:
    """The first examples of a batch; what is not one entry per example is left as it is."""
    size = batch_size(batch)
    cut: Batch = map_leaves(lambda leaf: leaf[:count] if is_per_example(leaf, size) else leaf, batch)
    return cut


def is_per_example(leaf: jax.Array, size: int) -> bool:
    """Whether an array of a batch has one entry for each of ``size`` examples."""
    return leaf.ndim > 0 and leaf.shape[0] == size


def array_of(outputs: Any) -> jax.Array:
    """The array that a model returned, be it in an object with ``logits``.

    Raises
    ------
    LossError
        If there is none.
    """
    logits = getattr(outputs, "logits", outputs)
    if isinstance(logits, jax.Array):
        return logits
    msg = (
        f"apply returned a {type(outputs).__name__} instead of an array: wrap it into a function that picks the "
        f"outputs (of a model with state, apply(...)[0])"
    )
    raise LossError(msg)


def _split(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        if "labels" not in batch:
            msg = f"a dictionary batch has the keys {', '.join(map(repr, batch))}, but no 'labels': rename the targets"
            raise DataError(msg)
        return {key: value for key, value in batch.items() if key != "labels"}, batch["labels"]
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and hasattr(batch[1], "shape"):
        return batch[0], batch[1]
    msg = f"a batch is a {type(batch).__name__}, but it has to be (inputs, targets) or a dictionary with 'labels'"
    raise DataError(msg)


def _to_array(leaf: Any, dtype: Any) -> jax.Array:
    array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return jnp.asarray(array, dtype=dtype)
    if isinstance(array, jax.Array):
        return array
    if array.dtype.kind not in "biu":
        msg = f"a batch holds a {type(leaf).__name__} of dtype {array.dtype}: leave out what is not an array of real numbers"
        raise DataError(msg)
    return jnp.asarray(_fitting(array))


def _fitting(integers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Integers of a width that JAX has: in its 32-bit mode it would cut off the upper halves of wider ones."""
    canonical = jax.dtypes.canonicalize_dtype(integers.dtype)
    narrow = integers.astype(canonical)
    if not np.array_equal(narrow, integers):
        msg = f"a batch holds integers of dtype {integers.dtype} that do not fit into JAX's {canonical}: make them smaller"
        raise DataError(msg)
    return narrow
