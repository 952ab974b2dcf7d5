"""Exponents that move nothing: the rows of a matrix up, its columns down by as much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from invariant_sharpness.symmetries.finding.meetings import Meeting
from invariant_sharpness.symmetries.sides import HostArray


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
