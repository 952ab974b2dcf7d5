"""Conditional mutual information between the order of a measure and the order of the gaps.

    K = min over S, |S| <= 2, of I(V_mu; V_g | U_S) / H(V_g | U_S),    V_v = [v_t > v_t']

over ordered pairs ``t != t'`` of networks; ``U_S`` is what both networks have for the hyperparameters in S. It is 1 if the order of the measure
tells that of the gaps whatever two hyperparameters are known, and 0 if it tells nothing beyond them. The estimate from counts is biased
upwards, the more so the fewer pairs share their ``U_S``.

Source: Jiang et al., ICLR 2020, (8) to (10).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.special import xlogy

from invariant_sharpness.evaluation.ranking.ledger import Ledger, Values
from invariant_sharpness.evaluation.ranking.statistics import Counts, Statistic, ratio

MOST_CONDITIONS = 2
"""How many hyperparameters are known at most."""


def conditional_mutual_information(ledger: Ledger) -> Statistic:
    """Prepare the minimum over all choices of at most two hyperparameters of the share of information, between 0 and 1."""
    conditions = [_groups(ledger, chosen) for chosen in _choices(len(ledger.hyperparameters))]
    larger_gap = ledger.pair_sums(lambda rows: _is_larger(ledger.gaps, rows))
    pairs = ledger.pair_sums(lambda rows: _are_different(len(ledger.gaps), rows))

    def statistic(measure: Values, counts: Counts) -> Values:
        larger = ledger.pair_sums(lambda rows: _is_larger(measure, rows))
        both = ledger.pair_sums(lambda rows: _is_larger(measure, rows) * _is_larger(ledger.gaps, rows))
        joint = np.stack([both, larger - both, larger_gap - both, pairs - larger - larger_gap + both])
        shares = np.stack([_share_of_information(joint, groups, counts) for groups in conditions])
        return np.fmin.reduce(shares, axis=0)

    return statistic


def _choices(count: int) -> list[tuple[int, ...]]:
    return [chosen for size in range(MOST_CONDITIONS + 1) for chosen in combinations(range(count), size)]


def _groups(ledger: Ledger, chosen: tuple[int, ...]) -> Values:
    """Mark the group of each configuration, those that share the chosen hyperparameters, by a one: ``(C, groups)``."""
    keys = np.unique(ledger.levels[:, list(chosen)], axis=0, return_inverse=True)[1].reshape(-1)
    return np.eye(keys.max() + 1)[keys]


def _is_larger(values: Values, rows: slice) -> Values:
    return (values[rows, None] > values[None, :]).astype(np.float64)


def _are_different(count: int, rows: slice) -> Values:
    return (np.arange(count)[rows, None] != np.arange(count)[None, :]).astype(np.float64)


def _share_of_information(joint: Values, groups: Values, counts: Counts) -> Values:
    """``I / H`` from the sums over pairs of the four outcomes of (V_mu, V_g): (1,1), (1,0), (0,1), (0,0); NaN where H is zero."""
    # Sum over the configurations of each pair of groups: B x 4 x groups x groups.
    weighted = counts[:, None, :, None] * groups
    sums = np.swapaxes(weighted, 2, 3) @ joint @ weighted
    yes_yes, yes_no, no_yes, no_no = np.moveaxis(sums, 1, 0)
    of_measure, of_gap = (yes_yes + yes_no, no_yes + no_no), (yes_yes + no_yes, yes_no + no_no)
    total = of_gap[0] + of_gap[1]
    cells = ((yes_yes, 0, 0), (yes_no, 0, 1), (no_yes, 1, 0), (no_no, 1, 1))
    information = sum(_times_log(cell, cell * total, of_measure[one] * of_gap[other]) for cell, one, other in cells)
    entropy = -(_times_log(of_gap[0], of_gap[0], total) + _times_log(of_gap[1], of_gap[1], total))
    return ratio(np.maximum(information, 0.0), np.where(entropy > 1e-12 * total.sum(axis=(1, 2)), entropy, 0.0))


def _times_log(count: Values, numerator: Values, denominator: Values) -> Values:
    """Sum ``n log(a / b)`` over pairs of groups, where n is not zero: ``(B,)``."""
    safe = np.where(count > 0, numerator / np.where(denominator > 0, denominator, 1.0), 1.0)
    return np.asarray(xlogy(count, safe).sum(axis=(1, 2)))
