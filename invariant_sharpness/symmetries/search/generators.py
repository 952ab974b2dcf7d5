"""Which generators are independent of those before them, and of what moves nothing.

The search for generators: first among blocks of units, then within the blocks of each one that was found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from invariant_sharpness.symmetries.generators import Generator
from invariant_sharpness.symmetries.search.equations import Equations
from invariant_sharpness.symmetries.search.null_space import Quotient, null_space, sparse_generators
from invariant_sharpness.symmetries.search.structure import (
    Block,
    Meeting,
    divided,
    involved,
    mean_movements,
    meetings,
    redundant_vectors,
    whole_sides,
)
from invariant_sharpness.symmetries.units import HostArray

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


_COLUMNS_COST = 1e-3
"""Where a row and a column say the same, as in a depthwise kernel, the row is named."""


class Level(NamedTuple):
    """Blocks that are searched together, and the sparse vectors that were found: one exponent per block in each."""

    blocks: list[Block]
    meetings: list[Meeting]
    costs: HostArray
    vectors: list[HostArray]


@dataclass(slots=True)
class Search:
    """Generators of a network, from its equations.

    Parameters
    ----------
    equations
        What the units contribute to each equation.
    most
        Unknowns that are searched at once.
    tolerance
        Singular values below this, relative to the largest, are zero.
    """

    equations: Equations
    most: int
    tolerance: float
    least_gap: float = field(default=np.inf, init=False)
    widest: int = field(default=1, init=False)

    def run(self) -> list[Generator]:
        """All generators; sets ``least_gap``, and ``widest``: the width of the blocks of the first search."""
        blocks = divided(whole_sides(self.equations.units), self.most)
        self.widest = max(map(len, blocks), default=1)
        level = self._level(blocks)
        found = [generator for vector in level.vectors for generator in self._refined(level, vector)]
        return independent(found, self.equations)

    def _refined(self, level: Level, vector: HostArray) -> Iterator[Generator]:
        """Split a generator that moves blocks into those that move parts of them, as far as it goes."""
        own = [level.blocks[number] for number in np.flatnonzero(involved(level.meetings, vector, level.costs))]
        parts = divided(own, self.most)
        if len(parts) == len(own):
            yield self._generator(level.blocks, vector)
            return
        finer = self._level(parts)
        for part in finer.vectors:
            yield from self._refined(finer, part)

    def _level(self, blocks: Sequence[Block]) -> Level:
        """Search among those of the blocks that act."""
        acting = self.equations.acting
        present = [block for block in blocks if acting[block].any()]
        space = null_space(self.equations.of_blocks(present), self.tolerance)
        self.least_gap = min(self.least_gap, space.gap)
        met, costs = meetings(self.equations, present), self._costs(present)
        quotient = Quotient(
            space.basis / self.equations.sizes_of_blocks(present)[:, None],
            redundant_vectors(met, len(present)),
            mean_movements(met, len(present)),
            costs,
        )
        return Level(present, met, costs, sparse_generators(quotient, self.tolerance))

    def _costs(self, blocks: Sequence[Block]) -> HostArray:
        """The part of its parameter that a block moves."""
        acting, units = self.equations.acting, self.equations.units
        on_side = np.bincount(units.side_of[acting], minlength=len(units.sides))
        parts = [acting[block].sum() / on_side[units.side_of[block[0]]] for block in blocks]
        return np.array(parts) * [1 + _COLUMNS_COST * (not units.on_first_side(int(block[0]))) for block in blocks]

    def _generator(self, blocks: Sequence[Block], vector: HostArray) -> Generator:
        """Units that do not act take no part. The first row that takes part goes up."""
        acting = self.equations.acting
        moved = [(block, exponent) for block, exponent in zip(blocks, vector, strict=True) if exponent]
        exponents = {int(unit): float(exponent) for block, exponent in moved for unit in block[acting[block]]}
        sign = np.sign(exponents[min(exponents)])
        return Generator(self.equations.units, {unit: float(sign * exponent) for unit, exponent in exponents.items()})
