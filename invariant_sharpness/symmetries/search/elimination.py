"""Elimination of what is known: which generators are independent, and what a vector is beyond those that are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import splu

from invariant_sharpness.symmetries.generators import Generator
from invariant_sharpness.symmetries.scaling_variables import HostArray, Numbers
from invariant_sharpness.symmetries.search.equations import Equations
from invariant_sharpness.symmetries.search.overlaps import trivial_rows

_ZERO = 1e-9

SparseRow = dict[int, float]
"""The entries of a vector that are not zero."""


class Elimination:
    """Independent rows, and the same in echelon form, each with a pivot variable that no later row has.

    Parameters
    ----------
    uses
        How many rows there will be with each variable. One that few have is eliminated first, so that rows stay short.
    """

    def __init__(self, uses: Counter[int]) -> None:
        self._uses = uses
        self._echelon: list[SparseRow] = []
        self._row_of: dict[int, int] = {}
        self.rows: list[SparseRow] = []
        self.pivots: list[int] = []

    def add(self, row: SparseRow) -> bool:
        """Add a row, and say whether it is independent of those before it."""
        rest = dict(row)
        while numbers := [self._row_of[variable] for variable in rest if variable in self._row_of]:
            self._eliminate(rest, min(numbers))
        if not rest:
            return False
        pivot = min(rest, key=lambda variable: (self._uses[variable], variable))
        self._row_of[pivot] = len(self._echelon)
        self._echelon.append(rest)
        self.pivots.append(pivot)
        self.rows.append(row)
        return True

    def _eliminate(self, row: SparseRow, number: int) -> None:
        known, pivot = self._echelon[number], self.pivots[number]
        factor = row.pop(pivot) / known[pivot]
        for variable, value in known.items():
            if variable != pivot:
                row[variable] = row.get(variable, 0.0) - factor * value
                if abs(row[variable]) < _ZERO:
                    del row[variable]


def eliminated(generators: Sequence[Generator], equations: Equations) -> tuple[Elimination, list[Generator]]:
    """Add the trivial directions and then the generators; returns those that are independent of what stands before them, too."""
    elimination = Elimination(Counter(number for generator in generators for number in generator.exponents))
    for row in trivial_rows(equations):
        elimination.add(row)
    return elimination, [generator for generator in generators if elimination.add(dict(generator.exponents))]


class KnownSpace:
    r"""The span of the rows of an elimination. A vector is reduced by the one of them that agrees with it in all pivots.

    With the rows K, pivots p and a vector v that is :math:`v - v_p K_{:,p}^{-1} K`: zero if and only if v is known.

    Parameters
    ----------
    elimination
        Independent rows and their pivots.
    count
        The number of variables.
    """

    def __init__(self, elimination: Elimination, count: int) -> None:
        rows = elimination.rows
        lengths = [len(row) for row in rows]
        entries = [value for row in rows for value in row.values()]
        numbers = [number for row in rows for number in row]
        self.pivots: Numbers = np.array(elimination.pivots, dtype=np.intp)
        self._rows = csr_array((entries, numbers, np.cumsum([0, *lengths])), shape=(len(rows), count))
        self._factors = splu(self._rows[:, self.pivots].T.tocsc()) if rows else None

    def reduced(self, vectors: HostArray) -> HostArray:
        """Reduce vectors, given as rows."""
        if self._factors is None:
            return vectors
        coordinates = self._factors.solve(np.ascontiguousarray(vectors[:, self.pivots].T))
        rest: HostArray = vectors - (self._rows.T @ coordinates).T
        rest[:, self.pivots] = 0.0
        return rest
