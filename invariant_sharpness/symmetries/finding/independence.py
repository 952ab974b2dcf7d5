"""Which generators are independent of those before them, and of what moves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from invariant_sharpness.symmetries.finding.equations import Equations
from invariant_sharpness.symmetries.rescaling import Generator

_ZERO = 1e-9

Row = dict[int, float]
"""The entries of a vector that are not zero."""


def independent(generators: Sequence[Generator], equations: Equations) -> list[Generator]:
    """By elimination; a unit that few generators move is eliminated first, so that rows stay short."""
    uses = Counter(unit for generator in generators for unit in generator.exponents)
    elimination = Elimination(uses)
    for row in _redundant(equations):
        elimination.add(row)
    return [generator for generator in generators if elimination.add(dict(generator.exponents))]


class Elimination:
    """Rows in echelon form, each with a unit of its own that no later row has.

    Parameters
    ----------
    uses
        How many rows there will be with each unit.
    """

    def __init__(self, uses: Counter[int]) -> None:
        self._uses = uses
        self._rows: list[Row] = []
        self._number: dict[int, int] = {}
        self._pivots: list[int] = []

    def add(self, row: Row) -> bool:
        """Whether the row is independent of those that were added before."""
        while numbers := [self._number[unit] for unit in row if unit in self._number]:
            self._eliminate(row, min(numbers))
        if not row:
            return False
        pivot = min(row, key=lambda unit: (self._uses[unit], unit))
        self._number[pivot] = len(self._rows)
        self._pivots.append(pivot)
        self._rows.append(row)
        return True

    def _eliminate(self, row: Row, number: int) -> None:
        known, pivot = self._rows[number], self._pivots[number]
        factor = row.pop(pivot) / known[pivot]
        for unit, value in known.items():
            if unit != pivot:
                row[unit] = row.get(unit, 0.0) - factor * value
                if abs(row[unit]) < _ZERO:
                    del row[unit]


def _redundant(equations: Equations) -> Iterator[Row]:
    """For each component of a parameter: its units on the first side up, and those on another side down."""
    units, labels = equations.units, np.where(equations.acting, equations.components, -1)
    for number, side in enumerate(units.sides):
        if not units.on_first_side(int(units.starts[number])):
            first = next(k for k, other in enumerate(units.sides) if other.group is side.group)
            up, down = (np.arange(units.starts[k], units.starts[k + 1]) for k in (first, number))
            for label in np.unique(labels[down][labels[down] >= 0]):
                rows, columns = up[labels[up] == label], down[labels[down] == label]
                yield dict.fromkeys(rows.tolist(), 1.0) | dict.fromkeys(columns.tolist(), -1.0)
