r"""Sums over examples of squared Jacobian products, :math:`\sum_n s_n (J_n^T v_n)^2`, parameter by parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from invariant_sharpness.adapters.data import batch_size, is_per_example, leaves, map_leaves
from invariant_sharpness.losses import Factors
from invariant_sharpness_jax.layer_sites import Tapped, tapped
from invariant_sharpness_jax.layer_squares import ProductSums
from invariant_sharpness_jax.room import Room
from invariant_sharpness_jax.trees import Arrays

_MOST_UNROLLED = 16
"""So many backward passes through convolutions are compiled one by one: inside of a loop, XLA runs them far slower on a CPU."""

Outputs = Callable[[Arrays, Any], jax.Array]


def squared_products(outputs: Outputs, arrays: Arrays, batch: Any, factors: Factors, room: Room) -> Arrays:
    """The sum of squares over the examples of a batch.

    Cost: for parameters with a site (see ``layer_sites``) one backward pass per factor, to the sites alone; for all others
    one per example and factor.

    Parameters
    ----------
    outputs
        ``(arrays, inputs) -> outputs``.
    arrays
        The parameters whose squares are wanted.
    batch
        Inputs and targets.
    factors
        What is squared, and its weight.
    room
        For gradients of single examples.
    """
    found = _at_sites(tapped(outputs, arrays, batch.inputs), arrays, factors, room)
    rest = {name: array for name, array in arrays.items() if name not in found}
    if not rest:
        return found
    fixed = {name: array for name, array in arrays.items() if name in found}
    return found | _one_by_one(lambda a, inputs: outputs({**a, **fixed}, inputs), rest, batch, factors, room)


def _at_sites(opened: Tapped, arrays: Arrays, factors: Factors, room: Room) -> Arrays:
    """Term by term, for all examples at once."""
    sums = ProductSums(opened.layers, opened.met, arrays, room)
    _, positions, terms = factors.signs.shape

    def add_term(totals: Arrays, index: jax.Array) -> tuple[Arrays, None]:
        t, r = index // terms, index % terms
        cotangents = (
            jnp.zeros(factors.vectors.shape[:3], opened.outputs.dtype).at[:, t].set(factors.vectors[:, t, :, r])
        )
        deltas = opened.pullback(cotangents.reshape(opened.outputs.shape))
        return sums.add(totals, factors.signs[:, t, r], deltas, deltas), None

    if not opened.layers:
        return {}
    indices = jnp.arange(positions * terms)
    convolutions = any(layer.members[0].site.operation == "conv_general_dilated" for layer in opened.layers)
    unroll = convolutions and len(indices) <= _MOST_UNROLLED
    totals, _ = jax.lax.scan(add_term, sums.start(), indices, unroll=unroll)
    return sums.finish(totals)


def _one_by_one(outputs: Outputs, arrays: Arrays, batch: Any, factors: Factors, room: Room) -> Arrays:
    """Example by example, in chunks of so many as memory allows; the last is filled up with examples of weight zero."""
    size = batch_size(batch)
    rows = [leaf for leaf in leaves(batch.inputs) if is_per_example(leaf, size)]

    def of_example(row: list[jax.Array], signs: jax.Array, vectors: jax.Array) -> Arrays:
        inputs = _with_rows(batch.inputs, size, row)
        return _of_example(lambda a: outputs(a, inputs), arrays, Factors(signs, vectors))

    def add_chunk(total: Arrays, chunk: Any) -> tuple[Arrays, None]:
        squares = jax.vmap(of_example)(*chunk)
        return jax.tree.map(lambda sum_, part: sum_ + jnp.sum(part, axis=0), total, squares), None

    count = -(-size // min(size, room.examples(sum(array.size for array in arrays.values()))))
    signs = _in_chunks(factors.signs, count, "constant")
    chunks = ([_in_chunks(row, count, "edge") for row in rows], signs, _in_chunks(factors.vectors, count, "edge"))
    total, _ = jax.lax.scan(add_chunk, jax.tree.map(jnp.zeros_like, arrays), chunks)
    return total


def _of_example(outputs: Callable[[Arrays], jax.Array], arrays: Arrays, factors: Factors) -> Arrays:
    """One backward pass per position and factor; the outputs of the other positions get no cotangent."""
    value, pullback = jax.vjp(outputs, arrays)
    positions, terms = factors.signs.shape

    def add_square(total: Arrays, index: jax.Array) -> tuple[Arrays, None]:
        t, r = index // terms, index % terms
        cotangent = jnp.zeros(factors.vectors.shape[:2], value.dtype).at[t].set(factors.vectors[t, :, r])
        (gradient,) = pullback(cotangent.reshape(value.shape))
        return jax.tree.map(lambda sum_, g: sum_ + factors.signs[t, r] * g * g, total, gradient), None

    total, _ = jax.lax.scan(add_square, jax.tree.map(jnp.zeros_like, arrays), jnp.arange(positions * terms))
    return total


def _with_rows(inputs: Any, size: int, row: list[jax.Array]) -> Any:
    """The inputs as a batch of one example; what all examples share stays as it is."""
    rows = iter(row)
    return map_leaves(lambda leaf: next(rows)[None] if is_per_example(leaf, size) else leaf, inputs)


def _in_chunks(rows: jax.Array, count: int, mode: str) -> jax.Array:
    """Rows cut into equal chunks, the last filled up with zeros (constant) or with the last row (edge)."""
    missing = -len(rows) % count
    padding = [(0, missing)] + [(0, 0)] * (rows.ndim - 1)
    filled = jnp.pad(rows, padding, mode=mode)
    return filled.reshape(count, -1, *rows.shape[1:])
