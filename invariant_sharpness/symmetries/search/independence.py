"""Independent generators: elimination among sparse vectors, and among the trivial directions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csc_array

from invariant_sharpness.symmetries.generators import Generator
from invariant_sharpness.symmetries.search.equations import Equations
from invariant_sharpness.symmetries.search.overlaps import trivial_rows

_ZERO = 1e-9

SparseRow = dict[int, float]
"""The entries of a vector that are not zero."""


def as_columns(rows: Sequence[Mapping[int, float]], count: int) -> Any:
    """Write sparse vectors of ``count`` entries as the columns of a sparse matrix."""
    starts = np.cumsum([0, *map(len, rows)])
    numbers = np.array([number for row in rows for number in row], dtype=np.intp)
    values = np.array([value for row in rows for value in row.values()], dtype=np.float64)
    return csc_array((values, numbers, starts), shape=(count, len(rows)))


def independent(generators: Iterable[Generator], equations: Equations) -> list[Generator]:
    """Keep the generators that are independent of those before them, and of trivial directions, by elimination.

    A variable that few generators have is eliminated first, so that rows stay short.
    """
    generators = list(generators)
    elimination = Elimination(Counter(number for generator in generators for number in generator.exponents))
    for row in trivial_rows(equations):
        elimination.add(row)
    return [generator for generator in generators if elimination.add(dict(generator.exponents))]


class Elimination:
    """Rows in echelon form, each with a pivot variable that no later row has.

    Parameters
    ----------
    uses
        How many rows there will be with each variable.

    Attributes
    ----------
    pivots
        The pivot variable of each row.
    """

    def __init__(self, uses: Counter[int]) -> None:
        self._uses = uses
        self._rows: list[SparseRow] = []
        self._row_of: dict[int, int] = {}
        self.pivots: list[int] = []

    def add(self, row: SparseRow) -> bool:
        """Add a row, and say whether it is independent of those before it."""
        while numbers := [self._row_of[variable] for variable in row if variable in self._row_of]:
            self._eliminate(row, min(numbers))
        if not row:
            return False
        pivot = min(row, key=lambda variable: (self._uses[variable], variable))
        self._row_of[pivot] = len(self._rows)
        self.pivots.append(pivot)
        self._rows.append(row)
        return True

    def _eliminate(self, row: SparseRow, number: int) -> None:
        known, pivot = self._rows[number], self.pivots[number]
        factor = row.pop(pivot) / known[pivot]
        for variable, value in known.items():
            if variable != pivot:
                row[variable] = row.get(variable, 0.0) - factor * value
                if abs(row[variable]) < _ZERO:
                    del row[variable]
