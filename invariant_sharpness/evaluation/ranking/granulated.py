"""Kendall's coefficient in cells of the grid: one hyperparameter varies, all others and the repeat are fixed.

Over all networks a measure may look good since it follows one hyperparameter; here each hyperparameter counts as much as any other.

    psi_i = mean over the cells of hyperparameter i of tau in the cell,    Psi = mean over i of psi_i

Source: Y. Jiang, B. Neyshabur, H. Mobahi, D. Krishnan, S. Bengio. Fantastic Generalization Measures and Where to Find Them. ICLR 2020, (4) and (5).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from invariant_sharpness.evaluation.ranking.ledger import Indices, Ledger, Values
from invariant_sharpness.evaluation.ranking.statistics import Counts, Statistic, ratio


class Cells(NamedTuple):
    """The pairs of networks within the cells of one hyperparameter.

    ``first`` and ``second`` are the networks of each pair, ``pairs`` is the matrix, cells by pairs, with a one where the pair is in the cell.
    """

    first: Indices
    second: Indices
    pairs: csr_array


def granulated_kendall(ledger: Ledger) -> Statistic:
    """Prepare Psi with tau-a in the cells, as Jiang et al. have it: a measure that is constant in a cell has 0 there."""
    by_hyperparameter = [kendall_along(ledger, number) for number in range(len(ledger.hyperparameters))]
    return _mean_of(by_hyperparameter)


def granulated_kendall_b(ledger: Ledger) -> Statistic:
    """Prepare Psi with tau-b in the cells: those in which the measure is constant are left out, which flatters it."""
    by_hyperparameter = [_kendall_b_along(ledger, number) for number in range(len(ledger.hyperparameters))]
    return _mean_of(by_hyperparameter)


def kendall_along(ledger: Ledger, hyperparameter: int) -> Statistic:
    """Prepare psi of one hyperparameter, with tau-a: concordant less discordant pairs over all pairs of the cell."""
    cells = cells_along(ledger, hyperparameter)

    def statistic(measure: Values, counts: Counts) -> Values:
        weights = _pair_weights(ledger, cells, counts)
        agreements = _signs(measure, cells) * _signs(ledger.gaps, cells)
        return _mean_of_cells(
            _cell_sums(weights, agreements, cells), _cell_sums(weights, np.ones_like(agreements), cells)
        )

    return statistic


def _kendall_b_along(ledger: Ledger, hyperparameter: int) -> Statistic:
    cells = cells_along(ledger, hyperparameter)

    def statistic(measure: Values, counts: Counts) -> Values:
        weights = _pair_weights(ledger, cells, counts)
        of_measure, of_gap = _signs(measure, cells), _signs(ledger.gaps, cells)
        untied = [_cell_sums(weights, np.abs(signs), cells) for signs in (of_measure, of_gap)]
        return _mean_of_cells(_cell_sums(weights, of_measure * of_gap, cells), np.sqrt(untied[0] * untied[1]))

    return statistic


def cells_along(ledger: Ledger, hyperparameter: int) -> Cells:
    """Find the pairs of networks that differ in one hyperparameter and share all others and the repeat."""
    lines = ledger.lines(hyperparameter)[ledger.configurations]
    keys = np.stack([lines, ledger.repeats], axis=1)
    numbers = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    found = [_pairs_within(np.flatnonzero(numbers == number)) for number in range(numbers.max() + 1)]
    sizes = [len(first) for first, _ in found]
    first, second = (np.concatenate([pair[side] for pair in found]) for side in (0, 1))
    cell = np.repeat(np.arange(len(sizes)), sizes)
    ones = np.ones(len(first))
    return Cells(first, second, csr_array((ones, (cell, np.arange(len(first)))), shape=(len(sizes), len(first))))


def _pairs_within(members: Indices) -> tuple[Indices, Indices]:
    one, other = np.triu_indices(len(members), k=1)
    return members[one], members[other]


def _pair_weights(ledger: Ledger, cells: Cells, counts: Counts) -> Values:
    """How often each pair is there, in each resampled ledger: ``(B, P)``."""
    return counts[:, ledger.configurations[cells.first]] * counts[:, ledger.configurations[cells.second]]


def _signs(values: Values, cells: Cells) -> Values:
    return np.sign(values[cells.first] - values[cells.second])


def _cell_sums(weights: Values, of_pairs: Values, cells: Cells) -> Values:
    """Sum within each cell: ``(B, cells)``."""
    return (cells.pairs @ (weights * of_pairs).T).T


def _mean_of_cells(numerators: Values, denominators: Values) -> Values:
    """Average the quotients of the cells that have one: ``(B,)``."""
    is_defined = denominators > 0
    quotients = np.divide(numerators, denominators, out=np.zeros_like(numerators), where=is_defined)
    return ratio(quotients.sum(axis=1), is_defined.sum(axis=1).astype(np.float64))


def _mean_of(statistics: list[Statistic]) -> Statistic:
    """Average over the hyperparameters that have a value."""

    def statistic(measure: Values, counts: Counts) -> Values:
        values = np.stack([of_one(measure, counts) for of_one in statistics])
        is_defined = ~np.isnan(values)
        return ratio(np.where(is_defined, values, 0).sum(axis=0), is_defined.sum(axis=0).astype(np.float64))

    return statistic
