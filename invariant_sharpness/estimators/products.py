"""Hessian-vector products in blocks: the data are read once for many vectors.

Products that are not made again after an interruption: the numbers that a loop takes from them, or they themselves.

They are kept after every block, so that a resumed run multiplies in the same blocks, with the same rounding.

Numbers that are not computed again after an interruption.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import BlockProductOracle, CurvatureOracle, require, supports
from invariant_sharpness.runtime.checkpoints import State, keep, loop_name, resumed
from invariant_sharpness.runtime.memory import pieces_within_limit, vector_size
from invariant_sharpness.runtime.progress import track

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


def numbers_of_products(
    oracle: CurvatureOracle,
    vectors: Iterable[ParameterVector],
    count: int,
    label: str,
    numbers: Callable[[ParameterVector, ParameterVector], Sequence[float]],
    *settings: object,
) -> npt.NDArray[np.float64]:
    """One row for each of ``count`` vectors: what ``numbers`` says of the vector and its product.

    Parameters
    ----------
    settings
        All that the vectors depend on: of other ones no row is taken from a checkpoint.
    """
    loop = loop_name(label, oracle, oracle.parameters, *settings)
    state = resumed(loop)
    rows = [] if state is None else list(state.arrays["rows"][:count])
    rest = itertools.islice(vectors, len(rows), None)
    for vector, product in hessian_vector_products(oracle, rest, count - len(rows), label):
        rows.append(np.array(numbers(vector, product)))
        if ends_block(oracle, len(rows), count):
            keep(loop, lambda: State({"rows": np.stack(rows)}))
    return np.stack(rows) if rows else np.zeros((0, 0))


def kept_products(
    oracle: CurvatureOracle, vectors: Iterable[ParameterVector], count: int, label: str, *settings: object
) -> Iterator[tuple[ParameterVector, ParameterVector]]:
    """Each of ``count`` vectors and its product, in order, as ``hessian_vector_products``; a checkpoint keeps all products.

    Parameters
    ----------
    settings
        All that the vectors depend on.
    """
    loop = loop_name(label, oracle, oracle.parameters, count, *settings)
    yield from track_products(_kept_blocks(oracle, iter(vectors), loop), label, count)


def ends_block(oracle: CurvatureOracle, done: int, count: int) -> bool:
    """Whether so many of ``count`` products are whole blocks."""
    return done == count or done % block_size(oracle) == 0


def _kept_blocks(
    oracle: CurvatureOracle, vectors: Iterator[ParameterVector], loop: str
) -> Iterator[tuple[ParameterVector, ParameterVector]]:
    """Each block is a step with a state of its own, so that no more than one of them is in memory."""
    size = block_size(oracle)
    for number in itertools.count():
        block = list(itertools.islice(vectors, size))
        if not block:
            return
        yield from zip(block, _kept_block(oracle, block, f"{loop} {number} of {size}"), strict=True)


def _kept_block(oracle: CurvatureOracle, block: list[ParameterVector], step: str) -> list[ParameterVector]:
    state = resumed(step)
    if state is not None:
        return list(state.vectors.values())
    products = multiplied(oracle, block)
    keep(step, lambda: State(vectors={str(number): product for number, product in enumerate(products)}))
    return products


def kept_numbers(
    items: Sequence[Item], number: Callable[[Item], float], label: str, loop: str, *, gradients: float
) -> npt.NDArray[np.float64]:
    """The number of each item, in order; a checkpoint keeps each when it is there.

    Parameters
    ----------
    label
        What is done, for those who watch the progress.
    loop
        As :func:`invariant_sharpness.runtime.checkpoints.loop_name`, of all that the numbers depend on. More items go on from fewer.
    gradients
        What a number costs.
    """
    state = resumed(loop)
    found = [] if state is None else state.arrays["numbers"][: len(items)].tolist()
    rest = items[len(found) :]
    for item in track(rest, label, len(rest), gradients):
        found.append(number(item))
        keep(loop, lambda: State({"numbers": np.array(found)}))
    return np.array(found)
