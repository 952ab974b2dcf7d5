"""A few single parameters, and the unit vectors that point to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import random_bits
from invariant_sharpness.protocol import CurvatureOracle, HostArrays

_GROUPS = 6
_STREAM = 2**33

Entry = tuple[str, tuple[int, ...]]
"""Name of a group, and an index into it."""


def chosen_entries(values: HostArrays, names: Iterable[str], seed: int) -> Iterator[Entry]:
    """The largest entry and a random one of each named group, of up to six groups."""
    candidates = sorted(name for name in names if values[name].size)
    words = random_bits(seed, _STREAM, 0, 2 * len(candidates))
    order = np.argsort(words[: len(candidates)], kind="stable")[:_GROUPS]
    for number in order:
        name = candidates[number]
        shape, size = values[name].shape, values[name].size
        positions = {int(np.argmax(np.abs(values[name]))), int(words[len(candidates) + number] % np.uint64(size))}
        for position in sorted(positions):
            yield name, tuple(int(i) for i in np.unravel_index(position, shape))


def unit_vector(oracle: CurvatureOracle, entry: Entry) -> ParameterVector:
    """One at the entry, zero elsewhere."""
    arrays = {group.name: np.zeros(group.shape) for group in oracle.groups}
    arrays[entry[0]][entry[1]] = 1.0
    return oracle.from_numpy(arrays)
