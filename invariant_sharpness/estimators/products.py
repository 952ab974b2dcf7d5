"""Hessian-vector products in blocks: the data are read once for many vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from invariant_sharpness.memory import pieces_within_limit, vector_size
from invariant_sharpness.progress import track
from invariant_sharpness.protocol import BlockProductOracle, CurvatureOracle, require, supports
from invariant_sharpness.vector import ParameterVector

Item = TypeVar("Item")

_LARGEST_BLOCK = 32
"""A longer block saves no more: its one linearization is a thirtieth of its cost already."""

_HELD = 3
"""For each vector of a block the vector, its product, and the part of one batch are in memory."""

_GRADIENTS = 2.0
"""What a product costs in gradients, for the progress that is reported."""


def hessian_vector_products(
    oracle: CurvatureOracle, vectors: Iterable[ParameterVector], count: int, label: str
) -> Iterator[tuple[ParameterVector, ParameterVector]]:
    """Each of ``count`` vectors and its product, in order, at the model's parameters.

    Vectors are taken from the iterable block by block, as many as the memory limit allows. An oracle that does not know
    blocks multiplies one by one. Cost: one product each, about 2 gradients in a block and 3 alone.
    """
    yield from track_products(_products(oracle, iter(vectors)), label, count)


def track_products(items: Iterable[Item], label: str, count: int) -> Iterator[Item]:
    """Report each item as one product."""
    yield from track(items, label, count, gradients=_GRADIENTS)


def block_size(oracle: CurvatureOracle) -> int:
    """How many vectors are multiplied at once within the memory limit."""
    if not supports(oracle, BlockProductOracle):
        return 1
    return min(_LARGEST_BLOCK, pieces_within_limit(_HELD * vector_size(oracle)))


def multiplied(oracle: CurvatureOracle, block: Sequence[ParameterVector]) -> list[ParameterVector]:
    """The products of one block."""
    if len(block) == 1:
        return [oracle.hessian_vector_product(oracle.parameters, block[0])]
    able = require(oracle, BlockProductOracle, metric="products")
    return able.hessian_vector_products(oracle.parameters, block)


def _products(
    oracle: CurvatureOracle, vectors: Iterator[ParameterVector]
) -> Iterator[tuple[ParameterVector, ParameterVector]]:
    size = block_size(oracle)
    while block := list(islice(vectors, size)):
        yield from zip(block, multiplied(oracle, block), strict=True)
