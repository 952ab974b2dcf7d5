r"""Sparse forms of vectors up to others: light ones, found by weighted medians.

A vector z is equivalent to z minus a multiple of a trivial direction h. The multiple that makes

.. math:: \sum_u c_u \lvert z_u - s h_u \rvert

least is the median of :math:`z_u / h_u`, weighted by :math:`c_u \lvert h_u \rvert`. Trivial directions of different weights share no variable, so that one
median for each of them gives the lightest form. Known generators, and vectors from one another, are subtracted as long as these forms get lighter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from invariant_sharpness.symmetries.scaling_variables import HostArray
from invariant_sharpness.symmetries.search.sparse_basis import rationalize

_ZERO = 1e-9
_DIGITS = 9
_MOST_FACTORS = 4
_MOST_SWEEPS = 10


def lightest(rows: HostArray, trivial: Any, known: Any, costs: HostArray) -> HostArray:
    """Subtract multiples of trivial directions, of known generators and of one another from the rows.

    Parameters
    ----------
    rows
        Vectors of exponents.
    trivial, known
        The columns of sparse matrices.
    costs
        The weight of each exponent in the sum of magnitudes.

    Returns
    -------
    HostArray
        As many rows, with the same span up to what is trivial or known.
    """
    forms, with_variable = _Forms(trivial, costs), known.tocsr()
    light = np.array([forms.settled(row, row) for row in rows])
    for _ in range(_MOST_SWEEPS):
        before = light.copy()
        for number in np.argsort(np.abs(light) @ costs, kind="stable").tolist():
            for other in _sharing(light, number, known, with_variable):
                light[number] = forms.lighter(light[number], other)
        if np.array_equal(light, before):
            break
    return rationalize(light, _ZERO)


def _sharing(rows: HostArray, number: int, known: Any, with_variable: Any) -> Iterator[HostArray]:
    """Yield the known generators, and then the other rows, that share variables with a row."""
    variables = np.flatnonzero(rows[number])
    for column in np.unique(with_variable[variables].indices).tolist():
        own = slice(known.indptr[column], known.indptr[column + 1])
        generator = np.zeros(rows.shape[1])
        generator[known.indices[own]] = known.data[own]
        yield generator
    shared = (rows[:, variables] != 0).any(axis=1)
    yield from (rows[other] for other in np.flatnonzero(shared).tolist() if other != number)


class _Forms:
    """The forms that vectors have up to trivial directions.

    Parameters
    ----------
    trivial
        The columns of a sparse matrix.
    costs
        The weight of each exponent.
    """

    def __init__(self, trivial: Any, costs: HostArray) -> None:
        self._trivial, self._with_variable, self._costs = trivial, trivial.tocsr(), costs

    def lighter(self, row: HostArray, other: HostArray) -> HostArray:
        """Return the lightest difference with a multiple of another vector that takes a variable out, or the row itself if none is lighter."""
        both = np.flatnonzero((row != 0) & (other != 0))
        factors = np.unique((row[both] / other[both]).round(_DIGITS))[:_MOST_FACTORS]
        forms = [self.settled(row - factor * other, other) for factor in factors]
        best = min(forms, key=self._weight, default=row)
        return best if self._weight(best) < self._weight(row) * (1 - _ZERO) else row

    def settled(self, row: HostArray, changed: HostArray) -> HostArray:
        """Subtract multiples of the trivial directions that share variables with what was changed, until that makes the row no lighter."""
        row, moved = np.where(np.abs(row) < _ZERO, 0.0, row), True
        directions = np.unique(self._with_variable[np.flatnonzero(changed)].indices).tolist()
        while moved:
            moved = any([self._subtract(row, column) for column in directions])  # noqa: C419 - each of them
        return row

    def _weight(self, row: HostArray) -> float:
        return float(self._costs @ np.abs(row))

    def _subtract(self, row: HostArray, column: int) -> bool:
        """Subtract the best multiple of a trivial direction in place, if that makes the row lighter, and say whether it does."""
        own = slice(self._trivial.indptr[column], self._trivial.indptr[column + 1])
        variables, values = self._trivial.indices[own], self._trivial.data[own]
        before, weights = row[variables], self._costs[variables]
        after = before - _weighted_median(before / values, weights * np.abs(values)) * values
        if weights @ np.abs(after) >= weights @ np.abs(before) * (1 - _ZERO):
            return False
        row[variables] = np.where(np.abs(after) < _ZERO, 0.0, after)
        return True


def _weighted_median(values: HostArray, weights: HostArray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
