"""Which examples of the data a process has: they are numbered process by process, in the order of the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from invariant_sharpness.adapters.data import require_examples


class Share(NamedTuple):
    """The examples of one process among those of all.

    Parameters
    ----------
    start
        The number of its first example.
    size
        How many it has; they follow one another.
    total
        How many all processes have.
    """

    start: int
    size: int
    total: int

    @classmethod
    def of(cls, rank: int, sizes: Sequence[int]) -> Share:
        """The share of the process with this rank, where processes have so many examples."""
        return cls(sum(sizes[:rank]), sizes[rank], sum(sizes))

    def among_first(self, examples: int) -> int:
        """How many of the first examples of all are here."""
        return min(max(examples - self.start, 0), self.size)

    def chosen(self, examples: Sequence[int]) -> list[int]:
        """Those of the examples with these numbers that are here, numbered from the first one here.

        Raises
        ------
        DataError
            If there is no example with one of the numbers, or there are no numbers.
        """
        wanted = require_examples(examples, self.total)
        return self.here(wanted).tolist()

    def here(self, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return numbers[(numbers >= self.start) & (numbers < self.start + self.size)] - self.start
