"""What a statistic of a measure is, and Kendall's over all networks.

A statistic is prepared for a ledger and then called with a measure and with *counts*: how often each configuration is there. Ones give its
value, and the counts of a bootstrap its values in resampled ledgers, in which a network makes no pair with its own copies.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from invariant_sharpness.evaluation.ranking.ledger import Ledger, Values

Counts = npt.NDArray[np.float64]
"""How often each of ``C`` configurations is in each of ``B`` resampled ledgers, shape ``(B, C)``."""


class Statistic(Protocol):
    """How well a measure orders the gaps of a ledger."""

    def __call__(self, measure: Values, counts: Counts) -> Values:
        """Return a value for each of the resampled ledgers, shape ``(B,)``; NaN where it is not defined."""
        ...


def signs(values: Values, rows: slice) -> Values:
    """Return ``sign(v_t - v_t')`` for some networks t against all t'."""
    return np.sign(values[rows, None] - values[None, :])


def ratio(numerator: Values, denominator: Values) -> Values:
    """Divide, with NaN where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)


def over_pairs(counts: Counts, sums: Values) -> Values:
    """Sum over pairs of networks, each as often as both configurations are there: ``sum_cc' w_c w_c' S_cc'``."""
    return ((counts @ sums) * counts).sum(axis=1)


def kendall(ledger: Ledger) -> Statistic:
    """Prepare Kendall's tau-b over all pairs of networks.

    ``tau_b = sum s_mu s_g / sqrt(sum |s_mu| sum |s_g|)`` with ``s_v = sign(v_t - v_t')``, over all ``t != t'`` (Kendall 1945). It is 1 if the
    measure orders the networks as their gaps do, -1 in the reverse order, and not defined for a measure that is constant.
    """
    differ_in_gap = ledger.pair_sums(lambda rows: np.abs(signs(ledger.gaps, rows)))

    def statistic(measure: Values, counts: Counts) -> Values:
        agreements = ledger.pair_sums(lambda rows: signs(measure, rows) * signs(ledger.gaps, rows))
        differ = ledger.pair_sums(lambda rows: np.abs(signs(measure, rows)))
        untied = np.sqrt(over_pairs(counts, differ) * over_pairs(counts, differ_in_gap))
        return ratio(over_pairs(counts, agreements), untied)

    return statistic
