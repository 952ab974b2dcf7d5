"""From a batch, as users have it, to arrays of inputs and targets."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from invariant_sharpness.adapters.data import Batch as Batch
from invariant_sharpness.adapters.data import batch_size as batch_size
from invariant_sharpness.adapters.data import map_leaves, output_array, plain, split_batch
from invariant_sharpness.adapters.whole_batches import of_example
from invariant_sharpness.errors import DataError
from invariant_sharpness_jax.application import Application


def to_batch(batch: Any, dtype: Any) -> Batch:
    """The batch as JAX arrays; inputs of floating-point numbers in ``dtype``, targets in single precision at least.

    Raises
    ------
    DataError
        If the batch is neither ``(inputs, targets)`` nor a dictionary with ``"labels"``, or holds something
        that is not an array or does not fit into JAX's integers, or whose type says where each example lies.
    """
    inputs, targets = plain(split_batch(batch))
    exact = jnp.promote_types(dtype, jnp.float32)
    return Batch(
        map_leaves(lambda leaf: _to_array(leaf, dtype), inputs),
        map_leaves(lambda leaf: _to_array(leaf, exact), targets),
    )


def array_of(outputs: Any) -> jax.Array:
    """The array that a model returned, be it in an object with ``logits``.

    Raises
    ------
    LossError
        If there is none.
    """
    advice = "wrap apply into a function that picks the outputs (of a model with state, apply(...)[0])"
    return output_array(outputs, jax.Array, advice)


def application_to_batches(application: Application) -> Application:
    """Return the model on batches that are one example each."""

    def whole(parameters: Any, example: Any, *constants: Any) -> jax.Array:
        return array_of(application.function(parameters, of_example(example), *constants))[None]

    return Application(whole, application.groups, application.constants)


def _to_array(leaf: Any, dtype: Any) -> jax.Array:
    array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
    if isinstance(array, jax.Array):
        _require_choosable(array)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return jnp.asarray(array, dtype=dtype)
    if isinstance(array, jax.Array):
        return array
    if array.dtype.kind not in "biu":
        msg = f"a batch holds a {type(leaf).__name__} of dtype {array.dtype}: leave out what is not an array of real numbers"
        raise DataError(msg)
    return jnp.asarray(_fitting(array))


def _require_choosable(array: jax.Array) -> None:
    """Raise unless some of the examples can be taken out of a batch, which types that say where each of them lies do not allow."""
    spec = jax.typeof(array).sharding.spec
    if len(spec) and spec[0] is not None:
        msg = (
            f"the examples are sharded over the axis {spec[0]!r} of a mesh that is part of the types of arrays, where no examples can be taken out "
            f"of a batch: make the mesh by jax.make_mesh(..., axis_types=(jax.sharding.AxisType.Auto,))"
        )
        raise DataError(msg)


def _fitting(integers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Integers of a width that JAX has: in its 32-bit mode it would cut off the upper halves of wider ones."""
    canonical = jax.dtypes.canonicalize_dtype(integers.dtype)
    narrow = integers.astype(canonical)
    if not np.array_equal(narrow, integers):
        msg = f"a batch holds integers of dtype {integers.dtype} that do not fit into JAX's {canonical}: make them smaller"
        raise DataError(msg)
    return narrow
