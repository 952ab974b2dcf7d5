"""Hessian-vector products in blocks: the data are read once for many vectors.

Vectors are asked for by their number, so that a run that was interrupted makes none of them twice. What was computed is
stored after every block: a run that goes on multiplies in the same blocks, with the same rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import islice

import numpy as np
import numpy.typing as npt

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    BlockProductOracle,
    CurvatureOracle,
    HessianOperator,
    HessianOperatorOracle,
    capability,
)
from invariant_sharpness.runtime.folder import Snapshot
from invariant_sharpness.runtime.loop import Loop, recall, tabulate
from invariant_sharpness.runtime.memory import chunks_within_limit, vector_size
from invariant_sharpness.runtime.progress import track

_LARGEST_BLOCK = 32
"""A longer block saves no more: its one linearization is a thirtieth of its cost already."""

_LONG_BLOCK = 8
"""Shorter blocks share one linearization where it can be held: that is a third of a product."""

_HELD = 3
"""For each vector of a block the vector, its product, and the part of one batch are in memory."""

GRADIENTS_PER_PRODUCT = 2.0
"""What a product costs in gradients, for the progress that is reported."""

Pair = tuple[ParameterVector, ParameterVector]
"""A vector and its product."""

Multiply = Callable[[Iterable[ParameterVector]], Iterator[Pair]]
"""Yields vectors and their products, in order."""


def block_size(oracle: CurvatureOracle) -> int:
    """Return how many vectors are multiplied at once within the memory limit."""
    if capability(oracle, BlockProductOracle) is None:
        return 1
    return min(_LARGEST_BLOCK, chunks_within_limit(_HELD * vector_size(oracle)))


def multiplied(oracle: CurvatureOracle, block: Sequence[ParameterVector]) -> list[ParameterVector]:
    """Return the products of one block, at the model's parameters, in one pass over the data if the oracle can."""
    able = capability(oracle, BlockProductOracle)
    if able is None or len(block) == 1:
        return [oracle.hessian_vector_product(oracle.parameters, vector) for vector in block]
    return able.hessian_vector_products(oracle.parameters, block)


def hessian_vector_products(oracle: CurvatureOracle, vectors: Iterable[ParameterVector]) -> Iterator[Pair]:
    """Yield each vector and its product, in order, at the model's parameters.

    Vectors are taken from the iterable block by block, as many as the memory limit allows. An oracle that does not know
    blocks multiplies one by one. Cost: one product each, about 2 gradients in a block and 3 alone.
    """
    return _in_blocks(oracle, partial(multiplied, oracle), vectors)


def repeated_products(oracle: CurvatureOracle) -> Multiply:
    """Return what yields each vector and its product, for vectors that depend on earlier products.

    An oracle that can linearizes the gradient once for all of them, with the first; a product costs about 2 gradients then. What it
    holds is let go with the function.
    """
    return partial(_in_blocks, oracle, _operator(oracle))


def _operator(oracle: CurvatureOracle) -> HessianOperator:
    """Return what multiplies a block: it linearizes with the first, and once for all blocks if the oracle can."""
    able = capability(oracle, HessianOperatorOracle)
    if able is None or not hasattr(oracle, "hessian_operator"):  # coordinates of a user's own, without this method
        return partial(multiplied, oracle)

    @cache
    def linearized() -> HessianOperator:
        return able.hessian_operator(oracle.parameters)

    return lambda block: linearized()(block)


def _in_blocks(
    oracle: CurvatureOracle, multiply: HessianOperator, vectors: Iterable[ParameterVector]
) -> Iterator[Pair]:
    """Take so many vectors at once as the memory limit allows."""
    size, waiting = block_size(oracle), iter(vectors)
    while block := list(islice(waiting, size)):
        yield from zip(block, multiply(block), strict=True)


def tracked_products(
    oracle: CurvatureOracle, vectors: Iterable[ParameterVector], count: int, label: str
) -> Iterator[Pair]:
    """Yield what :func:`hessian_vector_products` yields, and report each of the ``count`` products."""
    yield from track(hessian_vector_products(oracle, vectors), label, count, gradients=GRADIENTS_PER_PRODUCT)


def cached_products(
    oracle: CurvatureOracle, vector: Callable[[int], ParameterVector], count: int, label: str, *settings: object
) -> Iterator[Pair]:
    """Yield each of ``count`` vectors and its product, in order; a run that goes on finds the products of whole blocks.

    Parameters
    ----------
    oracle
        The oracle whose Hessian is multiplied.
    vector
        The vector of this number.
    count
        Number of vectors.
    label
        What is done, in words.
    settings
        All that the vectors depend on.
    """
    size = block_size(oracle)
    loop = Loop(label, oracle, (count, *settings))

    def pairs() -> Iterator[Pair]:
        for start in range(0, count, size):
            block = [vector(number) for number in range(start, min(start + size, count))]
            yield from zip(block, _cached_block(loop, f"{start // size} of {size}", block), strict=True)

    yield from track(pairs(), label, count, gradients=GRADIENTS_PER_PRODUCT)


def _cached_block(loop: Loop, key: str, block: list[ParameterVector]) -> list[ParameterVector]:
    """Each block has a snapshot of its own, so that no more than one of them is in memory."""

    def compute() -> Snapshot:
        products = multiplied(loop.oracle, block)
        return Snapshot(vectors={str(number): product for number, product in enumerate(products)})

    return list(recall(loop, key, compute).vectors.values())


def numbers_of_products(
    oracle: CurvatureOracle,
    vector: Callable[[int], ParameterVector],
    count: int,
    label: str,
    numbers: Callable[[ParameterVector, ParameterVector], Sequence[float]],
    *settings: object,
) -> npt.NDArray[np.float64]:
    """Return one row for each of ``count`` vectors: what ``numbers`` says of the vector and its product.

    Parameters
    ----------
    oracle
        The oracle whose Hessian is multiplied.
    vector
        The vector of this number.
    count
        Number of vectors.
    label
        What is done, in words.
    numbers
        The row, of the vector and its product.
    settings
        All that the vectors depend on: no row of other ones is taken up. More vectors go on from fewer.
    """
    multiply = partial(multiplied, oracle) if block_size(oracle) >= _LONG_BLOCK else _operator(oracle)

    def rows(block: Sequence[int]) -> Iterator[Sequence[float]]:
        vectors = [vector(number) for number in block]
        for given, product in zip(vectors, multiply(vectors), strict=True):
            yield numbers(given, product)

    loop = Loop(label, oracle, settings, total=count, gradients=GRADIENTS_PER_PRODUCT)
    return tabulate(loop, range(count), rows, together=block_size(oracle))
