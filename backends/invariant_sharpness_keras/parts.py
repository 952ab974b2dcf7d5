"""Work for one compiled graph after another: few enough pieces in each that it compiles fast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, pairwise

import numpy as np

from invariant_sharpness.runtime.memory import chunks_within_limit
from invariant_sharpness_keras.engines import Array
from invariant_sharpness_keras.losses import Term


def equal_parts(count: int, most: int) -> list[slice]:
    """Slices of about equal length, none of which is longer than ``most``."""
    parts = -(-count // most)
    return [slice(start, end) for start, end in pairwise(count * part // parts for part in range(parts + 1))]


def squares_in_parts(
    squares: Callable[[list[Array], list[Array]], dict[int, Array]], signs: Array, cotangents: Array, most: int
) -> dict[int, Array]:
    """The sum of what a function of terms gives for parts of them."""
    total: dict[int, Array] = {}
    for part in equal_parts(len(signs), most):
        found = squares(list(signs[part]), list(cotangents[part]))
        total = {index: total.get(index, 0) + array for index, array in found.items()}
    return total


def terms_in_blocks(terms: Iterator[Term], outputs: Array) -> Iterator[Term]:
    """The terms, as many in one pair of arrays as the memory limit allows."""
    size = chunks_within_limit(outputs.nbytes)
    while block := list(islice(terms, size)):
        signs, cotangents = zip(*block, strict=True)
        yield np.stack(signs), np.stack(cotangents).astype(outputs.dtype)
