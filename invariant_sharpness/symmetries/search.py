"""The search for generators: first among blocks of units, then within the blocks of each one that was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from invariant_sharpness.symmetries.blocks import Block, divided, whole_sides
from invariant_sharpness.symmetries.equations import Equations
from invariant_sharpness.symmetries.null_space import null_space
from invariant_sharpness.symmetries.redundancies import mean_movements, redundant_vectors
from invariant_sharpness.symmetries.rescaling import Generator
from invariant_sharpness.symmetries.sides import HostArray
from invariant_sharpness.symmetries.sparse_basis import Quotient, sparse_generators
from invariant_sharpness.symmetries.units import Units

_COLUMNS_COST = 1e-3
"""Where a row and a column say the same, as in a depthwise kernel, the row is named."""


@dataclass(slots=True)
class Search:
    """Generators of a network, from its equations.

    Parameters
    ----------
    units
        The unknowns.
    equations
        What they contribute to each equation.
    most
        Unknowns that are searched at once.
    tolerance
        Singular values below this, relative to the largest, are zero.
    """

    units: Units
    equations: Equations
    most: int
    tolerance: float
    least_gap: float = field(default=np.inf, init=False)
    widest: int = field(default=1, init=False)

    def run(self) -> list[Generator]:
        """All generators; sets ``least_gap``, and ``widest``: the width of the blocks of the first search."""
        blocks = divided(whole_sides(self.units), self.most)
        self.widest = max(map(len, blocks))
        return [generator for vector in self._vectors(blocks) for generator in self._refined(blocks, vector)]

    def _refined(self, blocks: Sequence[Block], vector: HostArray) -> Iterator[Generator]:
        """Split a generator that moves blocks into those that move parts of them, as far as it goes."""
        own = [
            block for block, taking_part in zip(blocks, self._taking_part(blocks, vector), strict=True) if taking_part
        ]
        parts = divided(own, self.most)
        if len(parts) == len(own):
            yield self._generator(blocks, vector)
            return
        for finer in self._vectors(parts):
            yield from self._refined(parts, finer)

    def _taking_part(self, blocks: Sequence[Block], vector: HostArray) -> npt.NDArray[np.bool_]:
        """The blocks that a generator moves; of a parameter that it moves as a whole, those of all sides.

        All rows up is the same as all columns up: which of the two can be split is not known yet.
        """
        sides = np.array([self.units.side_of[block[0]] for block in blocks])
        taking_part = vector != 0
        for number in np.unique(sides[taking_part]):
            if len(set(vector[sides == number])) == 1:
                group = self.units.sides[number].group
                taking_part |= np.array([self.units.sides[side].group is group for side in sides])
        return taking_part

    def _vectors(self, blocks: list[Block]) -> list[HostArray]:
        """Sparse generators with one exponent per block; those that do not act stay at zero."""
        acting = self.equations.acting
        present = [number for number, block in enumerate(blocks) if acting[block].any()]
        chosen = [blocks[number] for number in present]
        space = null_space(self.equations.of_blocks(chosen), self.tolerance)
        self.least_gap = min(self.least_gap, space.gap)
        found = sparse_generators(
            Quotient(
                space.basis / self.equations.sizes_of_blocks(chosen)[:, None],
                redundant_vectors(self.equations, chosen),
                mean_movements(self.equations, chosen),
                np.array([1 + _COLUMNS_COST * (not self.units.on_first_side(block[0])) for block in chosen]),
            ),
            self.tolerance,
        )
        whole = np.zeros((len(found), len(blocks)))
        whole[:, present] = np.reshape(found, (len(found), len(present)))
        return list(whole)

    def _generator(self, blocks: Sequence[Block], vector: HostArray) -> Generator:
        """Units that do not act take no part. The first row that takes part goes up."""
        acting = self.equations.acting
        moved = [(block, exponent) for block, exponent in zip(blocks, vector, strict=True) if exponent]
        exponents = {int(unit): float(exponent) for block, exponent in moved for unit in block[acting[block]]}
        sign = np.sign(exponents[min(exponents)])
        return Generator(self.units, {unit: float(sign * exponent) for unit, exponent in exponents.items()})
