"""Parts of random draws, whose differences tell the error of whatever is computed from their mean.

The means of the parts stay where the oracle is, in its own precision, until all of them are known; then each goes to the host in that precision.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle

Array = Any
Parts = npt.NDArray[np.floating[Any]]
"""One mean for each part, stacked, in the oracle's own precision."""

_COUNTS = (10, 8)
"""Even, so that one half of the parts can be held against the other."""

MOST_PARTS = max(_COUNTS)

_MOST_ENTRIES, _FEWEST_PARTS = 2**20, 4
"""A network with more parameters has no more than so many parts: copies of it are what memory holds."""


def most_parts(oracle: CurvatureOracle) -> int:
    """Return into how many parts the draws of a network are cut, at most. It is the same whichever groups are asked for."""
    entries = sum(group.size for group in oracle.groups)
    return MOST_PARTS if entries <= _MOST_ENTRIES else _FEWEST_PARTS


def equal_parts(indices: range, most: int = MOST_PARTS) -> list[range]:
    """Cut the indices into ten or eight runs, whichever makes fewer of them longer by one, and into no more than ``most``; fewer indices into single ones."""
    count = min(_COUNTS, key=lambda parts: len(indices) % parts) if len(indices) >= min(_COUNTS) else len(indices)
    if 1 < len(indices) < min(_COUNTS):
        count = len(indices) - len(indices) % 2
    if 1 < most < count:
        count = most - most % 2
    return in_parts(indices, count)


def in_parts(indices: range, count: int) -> list[range]:
    """Cut the indices into so many runs, of which the first ones may be longer by one.

    The mean over the parts of unequal numbers of draws is unbiased, and so is its squared standard error from their scatter: both weigh all parts alike.
    """
    length, longer = divmod(len(indices), max(count, 1))
    starts = [number * length + min(number, longer) for number in range(count + 1)]
    return [indices[start:end] for start, end in pairwise(starts)]


def compensated(total: Array, rest: Array, term: Array) -> tuple[Array, Array]:
    """Add a term to a sum and what rounding took away from it (Kahan 1965): the error does not grow with the number of terms."""
    wanted = term - rest
    grown = total + wanted
    return grown, (grown - total) - wanted


def whole_vector(oracle: CurvatureOracle, arrays: Mapping[str, Array]) -> ParameterVector:
    """Return the vector with these arrays, and zeros in all other groups."""
    parameters = oracle.parameters
    found = {
        g.name: arrays[g.name] if g.name in arrays else oracle.xp.zeros_like(parameters[g.name]) for g in oracle.groups
    }
    return ParameterVector(oracle.xp, found)


def stacked(
    oracle: CurvatureOracle, parts: list[dict[str, Array]], names: Collection[str], divisors: Sequence[int]
) -> dict[str, Parts]:
    """Copy sums to the host and divide them; ``parts`` is empty afterwards, so that no sum is in memory twice."""
    count, own = len(parts), precisions(oracle, parts[0])
    found = {g.name: np.empty((count, *g.shape), own[g.name]) for g in oracle.groups if g.name in names}
    for number, divisor in enumerate(divisors):
        arrays = oracle.to_numpy(whole_vector(oracle, parts.pop(0)))
        for name, mean in found.items():
            np.divide(arrays.pop(name), divisor, out=mean[number], casting="same_kind")
    return found


def precisions(oracle: CurvatureOracle, arrays: Mapping[str, Array]) -> dict[str, type[np.floating[Any]]]:
    """Return in which precision of the host each array is held: single where it has no more, as a mean of draws is no more exact than that."""
    bits = {name: oracle.xp.finfo(array.dtype).bits for name, array in arrays.items()}
    return {name: np.float32 if size <= 32 else np.float64 for name, size in bits.items()}


def added(first: Parts, second: Parts) -> Parts:
    """Add parts to parts, or to one exact diagonal, in the precision of what has more parts; the second is overwritten if it has no fewer."""
    if len(second) >= len(first):
        return np.add(first, second, out=second, casting="same_kind")
    return np.add(first, second, dtype=first.dtype)
