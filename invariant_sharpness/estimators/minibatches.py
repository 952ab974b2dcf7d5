"""The data cut at random into minibatches, and how far a mean over pairs of them can be off."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.protocol import CurvatureOracle, SubsetOracle, require

LEAST = 3
"""With fewer minibatches, leaving one out leaves no pair."""


class Minibatches(NamedTuple):
    """Disjoint minibatches of equal size, and all of them together."""

    parts: list[CurvatureOracle]
    together: CurvatureOracle


def minibatches_of(oracle: CurvatureOracle, count: int, seed: int, metric: str) -> Minibatches:
    """Oracles of ``count`` minibatches, cut at random; what is left over is in none of them.

    Raises
    ------
    ArgumentError
        If there are fewer than three, or fewer examples than minibatches.
    MissingCapabilityError
        If the oracle cannot be restricted to some examples.
    """
    able = require(oracle, SubsetOracle, metric=metric)
    if count < LEAST:
        msg = f"minibatches={count}, but {metric} and its standard error need at least {LEAST}"
        raise ArgumentError(msg)
    if able.examples < count:
        msg = f"minibatches={count}, but there are only {able.examples} examples: ask for fewer"
        raise ArgumentError(msg)
    order = random.permutation(seed, able.examples).tolist()
    size = len(order) // count
    parts = [able.subset(order[start : start + size]) for start in range(0, size * count, size)]
    together = oracle if size * count == len(order) else able.subset(order[: size * count])
    return Minibatches(parts, together)


def jackknife(statistic: Callable[[npt.NDArray[np.intp]], float], count: int) -> float:
    r"""Standard error of a statistic of ``count`` independent items, by leaving out each of them.

    .. math:: \frac{B - 1}{B} \sum_b (t_{(b)} - \bar t)^2

    is its square. It errs to the safe side in expectation (Efron and Stein 1981).

    Parameters
    ----------
    statistic
        A function of the indices of the items that are left.
    count
        Number of items.
    """
    every = np.arange(count)
    left_out = np.array([statistic(np.delete(every, b)) for b in every])
    return float(np.sqrt((count - 1) * np.var(left_out)))
