"""How much is made of single examples at once."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from invariant_sharpness.runtime.memory import chunks_within_limit

_MOST_ENTRIES = 2**23
"""More at once saves no time."""

_LARGEST_ENTRY = 8


@jax.tree_util.register_static
@dataclass(frozen=True, slots=True)
class Room:
    """A part of the form of a compiled program, as shapes are: with another room, it is compiled again.

    Parameters
    ----------
    entries
        So many entries of gradients of single examples are in memory at once, if one example does not have more.
    """

    entries: int

    def examples(self, entries: int) -> int:
        """How many examples with so many entries each; at least one."""
        return max(1, self.entries // max(1, entries))


def room_within_limit() -> Room:
    """As much as saves time, within the memory limit."""
    return Room(min(_MOST_ENTRIES, chunks_within_limit(_LARGEST_ENTRY)))
