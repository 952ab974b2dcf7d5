"""Exponents that move nothing: the rows of a matrix up, its columns down by as much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from invariant_sharpness.symmetries.blocks import Block
from invariant_sharpness.symmetries.equations import Equations
from invariant_sharpness.symmetries.sides import HostArray, Numbers


class Meeting(NamedTuple):
    """Blocks on two sides of a parameter that meet in its entries: how many acting units each has, and their sides in all."""

    blocks: tuple[list[int], list[int]]
    sizes: tuple[HostArray, HostArray]
    totals: tuple[int, int]

    @property
    def complete(self) -> bool:
        """Whether all that meet are among the blocks."""
        return all(sizes.sum() == total for sizes, total in zip(self.sizes, self.totals, strict=True))


def redundant_vectors(equations: Equations, blocks: Sequence[Block]) -> HostArray:
    """One column for each redundancy among the blocks.

    A parameter with k sides has k - 1 for each component of its units, if all of these that act are in the blocks.
    """
    columns = []
    for meeting in _meetings(equations, blocks):
        if meeting.complete and equations.units.on_first_side(blocks[meeting.blocks[0][0]][0]):
            column = np.zeros(len(blocks))
            column[meeting.blocks[0]], column[meeting.blocks[1]] = 1.0, -1.0
            columns.append(column)
    return np.array(columns).reshape(len(columns), len(blocks)).T


def mean_movements(equations: Equations, blocks: Sequence[Block]) -> HostArray:
    """Row b: how much the entries of block b move on average, as a linear function of the exponents of all blocks."""
    movements = np.eye(len(blocks))
    for (here, there), sizes, totals in _meetings(equations, blocks):
        movements[np.ix_(here, there)] += sizes[1] / totals[1]
        movements[np.ix_(there, here)] += sizes[0] / totals[0]
    return movements


def _meetings(equations: Equations, blocks: Sequence[Block]) -> Iterator[Meeting]:
    units = equations.units
    by_side: dict[int, list[int]] = {}
    for number, block in enumerate(blocks):
        by_side.setdefault(int(units.side_of[block[0]]), []).append(number)
    for here, there in combinations(sorted(by_side), 2):
        if units.sides[here].group is units.sides[there].group:
            yield from _on_sides(equations, blocks, (here, there), (by_side[here], by_side[there]))


def _on_sides(
    equations: Equations, blocks: Sequence[Block], sides: tuple[int, int], present: tuple[list[int], list[int]]
) -> Iterator[Meeting]:
    """Blocks are joined by the components of their units."""
    acting = equations.acting
    members = {b: equations.components[blocks[b][acting[blocks[b]]]] for side in present for b in side}
    own = [equations.components[acting & (equations.units.side_of == side)] for side in sides]
    for group in _joined(members):
        split = tuple([b for b in side if b in group] for side in present)
        if all(split):
            found = np.unique(np.concatenate([members[b] for b in group]))
            sizes = tuple(np.array([len(members[b]) for b in side], dtype=np.float64) for side in split)
            totals = tuple(int(np.isin(components, found).sum()) for components in own)
            yield Meeting(split, sizes, totals)  # type: ignore[arg-type]


def _joined(members: Mapping[int, Numbers]) -> list[set[int]]:
    """The blocks in sets that share no component."""
    names = list(members)
    numbers = np.repeat(np.arange(len(names)), [len(members[b]) for b in names])
    shared = np.unique(np.concatenate(list(members.values())), return_inverse=True)[1]
    count = len(names) + len(numbers)
    graph = coo_array((np.ones(len(numbers)), (numbers, len(names) + shared)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1][: len(names)]
    return [{names[k] for k in np.flatnonzero(labels == label)} for label in np.unique(labels)]
