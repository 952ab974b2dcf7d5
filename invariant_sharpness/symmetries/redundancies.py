"""Exponents that move nothing: the rows of a matrix up, its columns down by as much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from invariant_sharpness.symmetries.blocks import Block
from invariant_sharpness.symmetries.sides import HostArray
from invariant_sharpness.symmetries.units import Units

Mask = npt.NDArray[np.bool_]


class Meeting(NamedTuple):
    """Blocks on two sides of a parameter that meet in its entries: how many acting units each has, and their sides in all."""

    blocks: tuple[list[int], list[int]]
    sizes: tuple[HostArray, HostArray]
    totals: tuple[int, int]

    @property
    def complete(self) -> bool:
        """Whether all that meet are among the blocks."""
        return all(sizes.sum() == total for sizes, total in zip(self.sizes, self.totals, strict=True))


def redundant_vectors(units: Units, acting: Mask, blocks: Sequence[Block]) -> HostArray:
    """One column for each redundancy among the blocks.

    A parameter with k sides has k - 1 for each of its channel groups, if all of its units that act are in the blocks.
    """
    columns = []
    for meeting in _meetings(units, acting, blocks):
        if meeting.complete and units.on_first_side(blocks[meeting.blocks[0][0]][0]):
            column = np.zeros(len(blocks))
            column[meeting.blocks[0]], column[meeting.blocks[1]] = 1.0, -1.0
            columns.append(column)
    return np.array(columns).reshape(len(columns), len(blocks)).T


def mean_movements(units: Units, acting: Mask, blocks: Sequence[Block]) -> HostArray:
    """Row b: how much the entries of block b move on average, as a linear function of the exponents of all blocks."""
    movements = np.eye(len(blocks))
    for (here, there), sizes, totals in _meetings(units, acting, blocks):
        movements[np.ix_(here, there)] += sizes[1] / totals[1]
        movements[np.ix_(there, here)] += sizes[0] / totals[0]
    return movements


def _meetings(units: Units, acting: Mask, blocks: Sequence[Block]) -> Iterator[Meeting]:
    by_side: dict[int, list[int]] = {}
    for number, block in enumerate(blocks):
        by_side.setdefault(int(units.side_of[block[0]]), []).append(number)
    for here, there in combinations(sorted(by_side), 2):
        if units.sides[here].group is units.sides[there].group:
            yield from _on_sides(units, acting, blocks, (here, there), (by_side[here], by_side[there]))


def _on_sides(
    units: Units, acting: Mask, blocks: Sequence[Block], sides: tuple[int, int], present: tuple[list[int], list[int]]
) -> Iterator[Meeting]:
    """Blocks are joined by the channel groups of their units."""
    numbers = [*present[0], *present[1]]
    pairs = {(k, int(units.components[unit])) for k, b in enumerate(numbers) for unit in blocks[b]}
    rows, groups = np.array(sorted(pairs)).T
    count = len(numbers) + units.sides[sides[0]].group.channel_groups
    graph = coo_array((np.ones(len(rows)), (rows, len(numbers) + groups)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    for label in np.unique(labels[: len(numbers)]):
        joined = [b for b, own in zip(numbers, labels, strict=False) if own == label]
        split = tuple([b for b in joined if b in side] for side in present)
        if all(split):
            components = np.flatnonzero(labels[len(numbers) :] == label)
            sizes = tuple(np.array([acting[blocks[b]].sum() for b in side], dtype=np.float64) for side in split)
            totals = tuple(
                int((acting & (units.side_of == s) & np.isin(units.components, components)).sum()) for s in sides
            )
            yield Meeting(split, sizes, totals)  # type: ignore[arg-type]
