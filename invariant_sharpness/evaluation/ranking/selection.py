"""What a measure is worth to whoever picks a model by it, and how much it changes where the test error does not."""

from __future__ import annotations

import numpy as np

from invariant_sharpness.evaluation.ranking.ledger import Ledger, Values
from invariant_sharpness.evaluation.ranking.statistics import Counts, Statistic, ratio

BINS = 10
"""Into how many bins of equal size the networks are cut by their test error."""


def selection_regret(ledger: Ledger) -> Statistic:
    """Prepare the regret of picking the network with the smallest measure.

    ``(g(argmin mu) - min g) / (max g - min g)``: 0 if it has the smallest gap, 1 if it has the largest; the mean over networks that are equal
    in the measure.
    """

    def statistic(measure: Values, counts: Counts) -> Values:
        is_there = counts[:, ledger.configurations] > 0
        smallest = np.where(is_there, measure, np.inf).min(axis=1, keepdims=True)
        picked = counts[:, ledger.configurations] * (is_there & (measure == smallest))
        best = np.where(is_there, ledger.gaps, np.inf).min(axis=1)
        worst = np.where(is_there, ledger.gaps, -np.inf).max(axis=1)
        return ratio(picked @ ledger.gaps / picked.sum(axis=1) - best, worst - best)

    return statistic


def fragility(ledger: Ledger) -> Statistic:
    """Prepare the spread of a measure's ranks within bins of equal test error, over that in all networks.

    ``sqrt((sum_b sum_{t in b} (r_t - mean_b r)^2 / (T - bins)) / (sum_t (r_t - mean r)^2 / (T - 1)))`` with ranks r in the whole ledger: near 0
    if the measure is a function of the test error, near 1 if it has nothing to do with it.
    """
    from scipy.stats import rankdata  # a third of the time that the import of the library takes

    place = rankdata(ledger.errors, method="min") - 1
    bins = np.floor(place * BINS / len(place)).astype(np.intp)
    members = np.eye(BINS)[bins]

    def statistic(measure: Values, counts: Counts) -> Values:
        ranks, often = rankdata(measure), counts[:, ledger.configurations]
        within, degrees = _spread(ranks, often, members)
        total, of_all = _spread(ranks, often, np.ones((len(ranks), 1)))
        return np.sqrt(ratio(within * of_all, total * degrees))

    return statistic


def _spread(ranks: Values, often: Counts, members: Values) -> tuple[Values, Values]:
    """Return the sum of squares about the means of groups, and its degrees of freedom."""
    sizes, sums = often @ members, (often * ranks) @ members
    means = np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0)
    about = (often * (ranks - means @ members.T) ** 2).sum(axis=1)
    return about, sizes.sum(axis=1) - (sizes > 0).sum(axis=1)
