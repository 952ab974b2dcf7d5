"""Products that are not made again after an interruption: the numbers that a loop takes from them, or they themselves.

They are kept after every block, so that a resumed run multiplies in the same blocks, with the same rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from invariant_sharpness.checkpoints import State, keep, loop_name, resumed
from invariant_sharpness.estimators.products import block_size, hessian_vector_products, multiplied, track_products
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector


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
