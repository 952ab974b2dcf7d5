"""Sums over batches, and their mean."""

from __future__ import annotations

from math import isfinite

import jax
import jax.numpy as jnp

from invariant_sharpness.adapters.data import infinite_loss
from invariant_sharpness_jax.program import Sums
from invariant_sharpness_jax.trees import Arrays


@jax.jit
def added(total: Arrays, part: Arrays) -> Arrays:
    """The sum of both, array by array."""
    return jax.tree.map(jnp.add, total, part)


@jax.jit
def divided(total: Arrays, weight: float) -> tuple[Arrays, dict[str, jax.Array]]:
    """The mean, and for each array whether it is finite."""
    mean = jax.tree.map(lambda array: array / weight, total)
    return mean, jax.tree.map(lambda array: jnp.all(jnp.isfinite(array)), mean)


def finite_total(sums: Sums, index: int) -> float:
    """The sum of the weighted losses of a batch."""
    total = float(sums.total)
    if isfinite(total):
        return total
    row = int(jnp.argmax(~jnp.isfinite(sums.losses)))
    raise infinite_loss(row, index, float(sums.losses[row]))
