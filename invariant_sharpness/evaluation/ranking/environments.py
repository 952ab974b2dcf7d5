"""Sign errors in environments: how often a measure gets the order of two configurations wrong, on average and at worst.

An environment is an ordered pair of configurations that differ in exactly one hyperparameter. Over all pairs of their repeats,

    SE = (1 - sign(mu - mu') sign(g - g')) / 2,
    w  = max(0, 1 - 2 exp(-2 n (|g - g'| / 2)^2))^2,      v = max(0, w - 1/2),
    sign error = sum v SE / sum v,    kept if (sum v)^2 / sum v^2 >= smallest_environment.

``w`` bounds the probability that two gaps, measured on n test examples, have the order that they seem to have (Hoeffding), so that gaps have to
be differences of error rates. An environment counts in both directions, which have the same error.

Source: G. K. Dziugaite, A. Drouin, B. Neal, N. Rajkumar, E. Caballero, L. Wang, I. Mitliagkas, D. M. Roy. In Search of Robust Measures of
Generalization. NeurIPS 2020, section 4, and the code that was published with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from invariant_sharpness.evaluation.ranking.ledger import Indices, Ledger, Values
from invariant_sharpness.evaluation.ranking.statistics import Counts, Statistic, ratio

ROUNDING = 1e-9
"""Relative slack of the smallest environment: nine repeats of equal weight have an effective number of nine only up to rounding."""


@dataclass(frozen=True)
class Environments:
    """The environments of a ledger that are large enough.

    Parameters
    ----------
    ledger
        The networks.
    test_examples
        Number of examples that each gap was measured on.
    smallest
        Smallest effective number of pairs of an environment.
    """

    ledger: Ledger
    test_examples: int
    smallest: float

    def weights(self, rows: slice) -> Values:
        """``v`` of some networks against all, ``(rows, T)``."""
        gaps = self.ledger.gaps
        halves = np.abs(gaps[rows, None] - gaps) / 2
        certain = np.maximum(0.0, 1 - 2 * np.exp(-2 * self.test_examples * halves**2)) ** 2
        return np.maximum(0.0, certain - 0.5)

    @cached_property
    def sums(self) -> Values:
        """``sum v`` of every pair of configurations, ``(C, C)``."""
        return self.ledger.pair_sums(self.weights)

    @cached_property
    def kept(self) -> tuple[Indices, Indices]:
        """The two configurations of each environment."""
        squares = self.ledger.pair_sums(lambda rows: self.weights(rows) ** 2)
        effective = np.divide(self.sums**2, squares, out=np.zeros_like(squares), where=squares > 0)
        levels = self.ledger.levels
        num_different = (levels[:, None, :] != levels[None, :, :]).sum(axis=2)
        first, second = np.nonzero(
            (num_different == 1) & (effective >= self.smallest * (1 - ROUNDING)) & (self.sums > 0)
        )
        return first, second

    def losses(self, measure: Values) -> Values:
        """The sign error of each environment, shape ``(E,)``."""
        gaps = self.ledger.gaps

        def weighted_errors(rows: slice) -> Values:
            agreement = np.sign(measure[rows, None] - measure) * np.sign(gaps[rows, None] - gaps)
            return self.weights(rows) * (1 - agreement) / 2

        first, second = self.kept
        return (self.ledger.pair_sums(weighted_errors)[first, second] / self.sums[first, second]).astype(np.float64)

    def multiplicities(self, counts: Counts) -> Counts:
        """How often each environment is in each resampled ledger: ``(B, E)``."""
        first, second = self.kept
        return counts[:, first] * counts[:, second]


def sign_error_mean(environments: Environments) -> Statistic:
    """Prepare the mean of the sign errors."""

    def statistic(measure: Values, counts: Counts) -> Values:
        often = environments.multiplicities(counts)
        return ratio(often @ environments.losses(measure), often.sum(axis=1))

    return statistic


def sign_error_90(environments: Environments) -> Statistic:
    """Prepare the 90th percentile of the sign errors, interpolated linearly."""

    def statistic(measure: Values, counts: Counts) -> Values:
        losses = environments.losses(measure)
        order = np.argsort(losses)
        often = environments.multiplicities(counts)[:, order]
        return np.asarray([_percentile(losses[order], row, 0.9) for row in often])

    return statistic


def sign_error_max(environments: Environments) -> Statistic:
    """Prepare the largest sign error. What is resampled never has a larger one, so that its interval is one-sided."""

    def statistic(measure: Values, counts: Counts) -> Values:
        often = environments.multiplicities(counts)
        if not often.shape[1]:
            return np.full(len(counts), np.nan)
        largest = np.where(often > 0, environments.losses(measure), -np.inf).max(axis=1)
        return np.where(np.isfinite(largest), largest, np.nan)

    return statistic


def _percentile(rising: Values, often: Values, level: float) -> float:
    """The percentile of values that are there so often each, as NumPy has it for the repeated values."""
    ends = np.cumsum(often)
    if not len(ends) or not ends[-1]:
        return float("nan")
    place = level * (ends[-1] - 1)
    below, above = np.searchsorted(ends, [np.floor(place), np.ceil(place)], side="right")
    return float(rising[below] + (place - np.floor(place)) * (rising[above] - rising[below]))
