"""Intervals by resampling: configurations are drawn with replacement, each with all of its repeats.

All measures and statistics see the same resampled ledgers, so that differences between measures are paired.
Source: B. Efron. Bootstrap Methods: Another Look at the Jackknife. Annals of Statistics 7, 1979.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from invariant_sharpness.evaluation.ranking.ledger import Values
from invariant_sharpness.evaluation.ranking.statistics import Counts
from invariant_sharpness.prng import Stream


class Interval(NamedTuple):
    """A statistic with the interval that resampled ledgers give it.

    Parameters
    ----------
    value
        Of the ledger as it is; NaN where the statistic is not defined.
    low, high
        Ends of the interval.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return "-" if np.isnan(self.value) else f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_dict(self) -> dict[str, Any]:
        """Return the three numbers by name."""
        return self._asdict()


def resampled_counts(num_configurations: int, resamples: int, seed: int) -> Counts:
    """Count how often each configuration is in each resampled ledger, shape ``(resamples, C)``."""
    generator = np.random.Generator(np.random.Philox(key=[seed, Stream.BOOTSTRAP]))
    shares = np.full(num_configurations, 1 / num_configurations)
    return generator.multinomial(num_configurations, shares, size=resamples).astype(np.float64)


def interval(value: float, draws: Values, level: float) -> Interval:
    """Cut as much off each end of the resampled values, those that are defined, as leaves ``level`` of them."""
    defined = draws[~np.isnan(draws)]
    if np.isnan(value) or not len(defined):
        return Interval(value, float("nan"), float("nan"))
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(value, float(low), float(high))
