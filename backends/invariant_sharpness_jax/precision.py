"""Models in half precision compute as they are; everything that is added up is in single precision.

The vectors of such a parameter are in float32, which holds every value of bfloat16 and float16 exactly. They are rounded
where the model sees them, as a part of its program: derivatives pass through the rounding as if it were not there.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from invariant_sharpness_jax.trees import Arrays


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
