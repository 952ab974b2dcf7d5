"""Units put together in blocks, so that the search in a large network has few unknowns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from invariant_sharpness.symmetries.sides import Numbers
from invariant_sharpness.symmetries.units import Units

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
