"""Which rows and columns hang together by the entries in which they meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from invariant_sharpness.symmetries.sides import HostArray, Numbers
from invariant_sharpness.symmetries.units import Units


def components(units: Units, magnitudes: Mapping[str, HostArray]) -> Numbers:
    """A number for each unit, the same for those that meet in entries whose magnitude is not zero, or are linked by such.

    All rows up and all columns down moves nothing if they form a component: those of a channel group, or what a mask leaves.
    """
    meetings = list(_meetings(units, magnitudes))
    here, there = np.concatenate(meetings, axis=1) if meetings else np.zeros((2, 0), dtype=np.intp)
    graph = coo_array((np.ones(len(here), dtype=np.int8), (here, there)), shape=(len(units), len(units)))
    return connected_components(graph, directed=False)[1].astype(np.intp)


def _meetings(units: Units, magnitudes: Mapping[str, HostArray]) -> Iterator[Numbers]:
    """The units on the first side of a parameter and on each other one, entry by entry."""
    for first, start in zip(units.sides, units.starts, strict=False):
        for other, place in zip(units.sides, units.starts, strict=False):
            if other.group is first.group and place > start and units.on_first_side(int(start)):
                pair = np.broadcast_arrays(first.units + start, other.units + place)
                between = tuple(axis for axis, size in enumerate(pair[0].shape) if size == 1)
                linked = (magnitudes[first.group.name] > 0).any(axis=between, keepdims=True)
                yield np.stack([numbers[linked] for numbers in pair])
