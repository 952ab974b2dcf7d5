"""The search for generators: first among blocks of units, then within the blocks of each one that was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from invariant_sharpness.symmetries.finding.blocks import Block, divided, whole_sides
from invariant_sharpness.symmetries.finding.equations import Equations
from invariant_sharpness.symmetries.finding.independence import independent
from invariant_sharpness.symmetries.finding.meetings import Meeting, meetings
from invariant_sharpness.symmetries.finding.null_space import null_space
from invariant_sharpness.symmetries.finding.redundancies import involved, mean_movements, redundant_vectors
from invariant_sharpness.symmetries.finding.sparse_basis import Quotient, sparse_generators
from invariant_sharpness.symmetries.rescaling import Generator
from invariant_sharpness.symmetries.sides import HostArray

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
