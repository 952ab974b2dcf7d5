"""Where derivatives are checked: a generic point near the parameters, random directions, and single entries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, HostArrays

_DISTANCE = 2.0**-2
_POINT = 1000
"""Number of the vector that leads to the point, far from those of the directions."""

_MOST_GROUPS = 6

Entry = tuple[str, tuple[int, ...]]
"""The name of a group, and an index into it."""


def nearby_point(oracle: CurvatureOracle, seed: int) -> ParameterVector:
    """Move each parameter by up to a quarter of its size, and a zero by a quarter of that of its group.

    The parameters themselves are not generic. A trained model has hardly a gradient left to check, and a bias
    that starts at zero may put a ReLU exactly on its kink, where a loss has no derivative. An oracle that always
    answers for its own parameters, whatever it is asked, is found out here.
    """
    return oracle.parameters + _DISTANCE * magnitudes(oracle) * prng.uniform(oracle, seed, _POINT)


def scaled_signs(oracle: CurvatureOracle, seed: int, index: int) -> ParameterVector:
    """Return a direction in which every parameter changes by its own size, up or down."""
    return magnitudes(oracle) * prng.signs(oracle, seed, index)


def group_norms(oracle: CurvatureOracle, vector: ParameterVector) -> dict[str, float]:
    """Return the Euclidean norm of each group."""
    return {name: float(oracle.xp.sum(array * array)) ** 0.5 for name, array in vector.arrays.items()}


def chosen_entries(values: HostArrays, seed: int) -> Iterator[Entry]:
    """Choose the largest entry and a random one of each group, of up to six groups."""
    candidates = sorted(name for name in values if values[name].size)
    words = prng.random_bits(seed, prng.Stream.CHECKED_ENTRIES, 0, 2 * len(candidates))
    order = np.argsort(words[: len(candidates)], kind="stable")[:_MOST_GROUPS]
    for number in order:
        name = candidates[number]
        shape, size = values[name].shape, values[name].size
        positions = {int(np.argmax(np.abs(values[name]))), int(words[len(candidates) + number] % np.uint64(size))}
        for position in sorted(positions):
            yield name, tuple(int(i) for i in np.unravel_index(position, shape))


def unit_vector(oracle: CurvatureOracle, entry: Entry) -> ParameterVector:
    """Return the vector that is one at the entry and zero elsewhere."""
    arrays = {group.name: np.zeros(group.shape) for group in oracle.groups}
    arrays[entry[0]][entry[1]] = 1.0
    return oracle.from_numpy(arrays)
