"""Where blocks of rows and blocks of columns meet, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from invariant_sharpness.symmetries.finding.blocks import Block
from invariant_sharpness.symmetries.finding.equations import Equations
from invariant_sharpness.symmetries.sides import HostArray, Numbers


class Meeting(NamedTuple):
    """Blocks on two sides of a parameter that meet in its entries.

    Parameters
    ----------
    blocks
        Their numbers, for each of the two sides.
    sizes
        How many units that act each of them has.
    totals
        How many units that act there are on each side in all.
    first
        Whether the one side is the first of the parameter.
    """

    blocks: tuple[list[int], list[int]]
    sizes: tuple[HostArray, HostArray]
    totals: tuple[int, int]
    first: bool

    @property
    def complete(self) -> bool:
        """Whether all that meet are among the blocks: then all of one side up and all of the other down moves nothing."""
        return all(sizes.sum() == total for sizes, total in zip(self.sizes, self.totals, strict=True))


def meetings(equations: Equations, blocks: Sequence[Block]) -> list[Meeting]:
    """All of them; a parameter has as many as there are components of its units, for each pair of its sides."""
    units = equations.units
    by_side: dict[int, list[int]] = {}
    for number, block in enumerate(blocks):
        by_side.setdefault(int(units.side_of[block[0]]), []).append(number)
    return [
        meeting
        for here, there in combinations(sorted(by_side), 2)
        if units.sides[here].group is units.sides[there].group
        for meeting in _on_sides(equations, blocks, (here, there), (by_side[here], by_side[there]))
    ]


def _on_sides(
    equations: Equations, blocks: Sequence[Block], sides: tuple[int, int], present: tuple[list[int], list[int]]
) -> Iterator[Meeting]:
    """Blocks are joined by the components of their units."""
    acting, units = equations.acting, equations.units
    members = {b: equations.components[blocks[b][acting[blocks[b]]]] for side in present for b in side}
    own = [equations.components[acting & (units.side_of == side)] for side in sides]
    first = units.on_first_side(int(units.starts[sides[0]]))
    for group in _joined(members):
        here, there = ([b for b in side if b in group] for side in present)
        if here and there:
            found = np.unique(np.concatenate([members[b] for b in group]))
            sizes = [np.array([len(members[b]) for b in side], dtype=np.float64) for side in (here, there)]
            totals = [int(np.isin(numbers, found).sum()) for numbers in own]
            yield Meeting((here, there), (sizes[0], sizes[1]), (totals[0], totals[1]), first)


def _joined(members: Mapping[int, Numbers]) -> list[set[int]]:
    """The blocks in sets that share no component."""
    names = list(members)
    numbers = np.repeat(np.arange(len(names)), [len(members[b]) for b in names])
    shared = np.unique(np.concatenate(list(members.values())), return_inverse=True)[1]
    count = len(names) + len(numbers)
    graph = coo_array((np.ones(len(numbers)), (numbers, len(names) + shared)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1][: len(names)]
    return [{names[k] for k in np.flatnonzero(labels == label)} for label in np.unique(labels)]
