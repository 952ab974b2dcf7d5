"""Independent generators: elimination among sparse vectors, and among the trivial directions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from invariant_sharpness.symmetries.generators import Generator
from invariant_sharpness.symmetries.search.equations import Equations
from invariant_sharpness.symmetries.search.overlaps import trivial_rows

_ZERO = 1e-9

SparseRow = dict[int, float]
"""The entries of a vector that are not zero."""


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
    """

    def __init__(self, uses: Counter[int]) -> None:
        self._uses = uses
        self._rows: list[SparseRow] = []
        self._row_of: dict[int, int] = {}
        self._pivots: list[int] = []

    def add(self, row: SparseRow) -> bool:
        """Add a row, and say whether it is independent of those before it."""
        while numbers := [self._row_of[variable] for variable in row if variable in self._row_of]:
            self._eliminate(row, min(numbers))
        if not row:
            return False
        pivot = min(row, key=lambda variable: (self._uses[variable], variable))
        self._row_of[pivot] = len(self._rows)
        self._pivots.append(pivot)
        self._rows.append(row)
        return True

    def _eliminate(self, row: SparseRow, number: int) -> None:
        known, pivot = self._rows[number], self._pivots[number]
        factor = row.pop(pivot) / known[pivot]
        for variable, value in known.items():
            if variable != pivot:
                row[variable] = row.get(variable, 0.0) - factor * value
                if abs(row[variable]) < _ZERO:
                    del row[variable]
