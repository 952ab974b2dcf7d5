"""Draws in a few independent parts, whose scatter tells the error of whatever is computed from them.

Memory holds one copy of the sampled groups per part, however many draws there are.
"""

from __future__ import annotations

_COUNTS = (10, 8)
"""Even, so that one half of the parts can be held against the other."""


def equal_parts(indices: range) -> list[range]:
    """The indices in ten or eight runs of equal length, whichever leaves fewer out; if they are less, one by one."""
    count = min(_COUNTS, key=lambda parts: len(indices) % parts) if len(indices) >= min(_COUNTS) else len(indices)
    if 1 < len(indices) < min(_COUNTS):
        count = len(indices) - len(indices) % 2
    length = len(indices) // max(count, 1)
    return [indices[number * length : (number + 1) * length] for number in range(count)]
