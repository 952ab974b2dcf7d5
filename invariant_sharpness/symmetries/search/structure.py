"""Which rows and columns hang together by the entries in which they meet.

Units put together in blocks, so that the search in a large network has few unknowns.

Where blocks of rows and blocks of columns meet, and what follows from it.

Exponents that move nothing: the rows of a matrix up, its columns down by as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from invariant_sharpness.symmetries.search.equations import Equations
from invariant_sharpness.symmetries.units import HostArray, Numbers, Units

_SMALL = 64

Block = Numbers
"""The numbers of neighbouring units of one side."""


def whole_sides(units: Units) -> list[Block]:
    """One block for each side."""
    return np.split(np.arange(len(units)), units.starts[1:-1])


def divided(blocks: Sequence[Block], most: int) -> list[Block]:
    """Divide the blocks into parts of one width, but into no more than ``most`` parts in all.

    One width that divides as many blocks as possible, so that the parts of different sides fit each other; the last part of a block may be shorter.
    """
    sizes = np.array([len(block) for block in blocks], dtype=np.intp)
    choices = [(width, _parts(sizes, width, most)) for width in _widths(sizes)]
    fitting = [(_fitting(sizes, widths, width), _count(sizes, widths), widths) for width, widths in choices]
    widths = max(fitting, key=lambda choice: choice[:2])[2]
    return [part for block, width in zip(blocks, widths, strict=True) for part in _cut(block, int(width))]


def _parts(sizes: Numbers, width: int, most: int) -> Numbers:
    """The width of the parts of each block. Those of equal size are divided all or none, as long as there are few enough parts.

    Those of which it is a divisor come first, and the smaller ones.
    """
    widths = sizes
    larger = np.unique(sizes[sizes > width])
    for size in larger[np.argsort(larger % width != 0, kind="stable")]:
        more = np.where(sizes == size, width, widths)
        widths = more if _count(sizes, more) <= most else widths
    return widths


def _fitting(sizes: Numbers, widths: Numbers, width: int) -> float:
    """How well the blocks fit each other: best if they are divided without a rest, worst if they are much longer and whole."""
    divided, exact = widths < sizes, sizes % width == 0
    longer = sizes[widths > width] / width
    return float(np.sum(divided & exact) + np.sum((divided | exact) & (sizes >= width)) - 2 * np.sum(np.log2(longer)))


def _widths(sizes: Numbers) -> list[int]:
    """All divisors of the sizes, and small numbers."""
    dividing = {d for size in set(sizes.tolist()) for d in range(1, size + 1) if size % d == 0}
    return sorted(dividing | set(range(1, min(_SMALL, int(sizes.max())) + 1)))


def _count(sizes: Numbers, widths: Numbers) -> int:
    return int(np.sum(-(-sizes // widths)))


def _cut(block: Block, width: int) -> list[Block]:
    return np.split(block, np.arange(width, len(block), width))


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


def redundant_vectors(meetings: Sequence[Meeting], count: int) -> HostArray:
    """One column for each redundancy among ``count`` blocks.

    A parameter with k sides has k - 1 for each component of its units, if all of these that act are in the blocks.
    """
    columns = np.zeros((count, 0))
    for (here, there), _, _, first in filter(lambda meeting: meeting.complete, meetings):
        if first:
            column = np.zeros((count, 1))
            column[here], column[there] = 1.0, -1.0
            columns = np.concatenate([columns, column], axis=1)
    return columns


def mean_movements(meetings: Sequence[Meeting], count: int) -> HostArray:
    """Row b: how much the entries of block b move on average, as a linear function of the exponents of all ``count`` blocks."""
    movements = np.eye(count)
    for (here, there), sizes, totals, _ in meetings:
        movements[np.ix_(here, there)] += sizes[1] / totals[1]
        movements[np.ix_(there, here)] += sizes[0] / totals[0]
    return movements


def involved(meetings: Sequence[Meeting], vector: HostArray, costs: HostArray) -> npt.NDArray[np.bool_]:
    """The blocks that a vector moves, or that another one moves that says the same at no higher cost.

    All rows up is the same as all columns up, and one half of both sides up and down the same as the other half down and up.
    """
    found = vector != 0
    for (here, there), *_ in filter(lambda meeting: meeting.complete, meetings):
        own = np.concatenate([vector[here], -vector[there]])
        weights = np.concatenate([costs[here], costs[there]])
        shifts = np.unique([0.0, *own])
        prices = np.abs(own - shifts[:, None]) @ weights
        for shift in shifts[prices <= prices.min() * 1.01]:
            found[[*here, *there]] |= own != shift
    return found
