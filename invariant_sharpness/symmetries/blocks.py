"""Units put together in blocks, so that the search in a large network has few unknowns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from invariant_sharpness.symmetries.sides import Numbers
from invariant_sharpness.symmetries.units import Units

Block = Numbers
"""The numbers of neighbouring units of one side."""


def whole_sides(units: Units) -> list[Block]:
    """One block for each side."""
    return np.split(np.arange(len(units)), units.starts[1:-1])


def divided(blocks: Sequence[Block], most: int) -> list[Block]:
    """Divide as many blocks as possible, all into parts of one width, but into no more than ``most`` parts in all.

    One width, so that the parts of different sides fit each other. A block that it does not divide stays whole.
    """
    sizes = np.array([len(block) for block in blocks])
    choices = [np.where(sizes % width == 0, sizes // width, 1) for width in _divisors(sizes.tolist())]
    affordable = [parts for parts in choices if parts.sum() <= most]
    if not affordable:
        return list(blocks)
    best = max(affordable, key=lambda parts: (np.sum(parts > 1), parts.sum()))
    return [part for block, number in zip(blocks, best, strict=True) for part in np.split(block, number)]


def _divisors(sizes: Sequence[int]) -> list[int]:
    return sorted({d for size in set(sizes) for d in range(1, size + 1) if size % d == 0})
