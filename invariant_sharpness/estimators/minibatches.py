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


def minibatches_of(oracle: CurvatureOracle, count: int, seed: int, metric: str, size: int | None = None) -> Minibatches:
    """Oracles of ``count`` minibatches, cut at random; what is left over is in none of them.

    Parameters
    ----------
    oracle
        The loss of all examples.
    count
        Number of minibatches.
    seed
        Seed of the cut.
    metric
        Who asks, for the messages.
    size
        Number of examples of each. Default: as many as there are for so many minibatches.

    Raises
    ------
    ArgumentError
        If there are fewer than three, or fewer examples than they need.
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
    size = able.examples // count if size is None else size
    if size < 1 or size * count > able.examples:
        most = f"at most {able.examples // count} examples each" if size > 0 else "at least one example each"
        msg = f"size={size}, but {count} minibatches of {able.examples} examples have {most}"
        raise ArgumentError(msg)
    parts = disjoint_parts(able, size, count, seed)
    together = oracle if size * count == able.examples else able.subset(_order(able, seed)[: size * count])
    return Minibatches(parts, together)


def disjoint_parts(oracle: SubsetOracle, size: int, count: int, seed: int) -> list[CurvatureOracle]:
    """Return the oracles of ``count`` parts of ``size`` examples each, the first of all examples in random order."""
    order = _order(oracle, seed)
    return [oracle.subset(order[start : start + size]) for start in range(0, size * count, size)]


def _order(oracle: SubsetOracle, seed: int) -> list[int]:
    return random.permutation(seed, oracle.examples).tolist()


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
