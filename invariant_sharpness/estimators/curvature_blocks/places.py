"""Which entries of the Gauss-Newton matrix are asked for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from invariant_sharpness.protocol import CurvatureOracle

HostArray = npt.NDArray[np.float64]

Places = Mapping[str, npt.NDArray[np.intp]]
"""Of each group the positions of its entries in C order, with the entries of one block along the last axis."""

Blocks = dict[str, HostArray]
"""Of each group the blocks, with one axis more than its places."""


def number_of_entries(places: Places) -> int:
    """Number of parameters in all blocks."""
    return sum(place.size for place in places.values())


def flat_entries(oracle: CurvatureOracle, arrays: Mapping[str, HostArray], places: Places) -> HostArray:
    """The groups of the places, one after the other."""
    return np.concatenate([arrays[group.name].ravel() for group in oracle.groups if group.name in places])


def offsets(oracle: CurvatureOracle, places: Places) -> dict[str, int]:
    """Where each group begins among them."""
    found, start = {}, 0
    for group in oracle.groups:
        if group.name in places:
            found[group.name], start = start, start + group.size
    return found
