"""Take the means of the parts of some draws, part by part, and go on where an interrupted run was left; or add them to what is there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from invariant_sharpness.estimators.parts_of_draws import Array, Parts, precisions, stacked, whole_vector
from invariant_sharpness.parameters.groups import Computed
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.folder import Snapshot
from invariant_sharpness.runtime.loop import Loop, iterate


def part_means(
    loop: Loop, names: Collection[str], parts: Sequence[range], mean: Callable[[range], ParameterVector]
) -> dict[str, Parts]:
    """Take the mean of each part of some draws, on the named groups, and stack them on the host."""

    def step(means: _PartMeans) -> _PartMeans:
        found = mean(parts[means.done])
        return _PartMeans(means.oracle, means.names, [*means.parts, {name: found[name] for name in names}])

    means = iterate(step, _PartMeans(loop.oracle, frozenset(names), []), loop).parts
    return stacked(loop.oracle, means, names, [1] * len(means))


def add_part_means(
    loop: Loop, onto: dict[str, Parts], parts: Sequence[range], mean: Callable[[range], ParameterVector]
) -> dict[str, Parts]:
    """Add the mean of each part of some draws to the same part of what is there, or to the one part that there is.

    ``onto`` is empty afterwards. Memory: what is there, which is in memory once, and one mean.
    """
    own = precisions(loop.oracle, loop.oracle.parameters.arrays)
    sums = {name: _of_each_part(onto.pop(name), len(parts), own[name]) for name in [*onto]}

    def step(added: _AddedMeans) -> _AddedMeans:
        found = loop.oracle.to_numpy(mean(parts[added.done]))
        for name, total in sums.items():
            total[added.done] += found[name]
        return replace(added, done=added.done + 1)

    return iterate(step, _AddedMeans(loop.oracle, sums), loop).sums


def _of_each_part(given: Parts, count: int, dtype: type[np.floating[Any]]) -> Parts:
    """Return a copy of the parts, or as many copies of the one that there is."""
    return np.array(np.broadcast_to(given, (count, *given.shape[1:])), dtype)


@dataclass(frozen=True, slots=True)
class _AddedMeans:
    """Parts on the host, to the first of which a mean has been added."""

    oracle: CurvatureOracle
    sums: dict[str, Parts]
    done: int = 0

    def save(self) -> Snapshot:
        numbers = [str(number) for number in range(self.done)]
        return Snapshot({}, Computed(numbers, lambda number: self._vector(int(number))))

    def restored(self, saved: Snapshot) -> _AddedMeans:
        for number, vector in saved.vectors.items():
            arrays = self.oracle.to_numpy(vector)
            for name, total in self.sums.items():
                total[int(number)] = arrays[name]
        return replace(self, done=len(saved.vectors))

    def _vector(self, number: int) -> ParameterVector:
        zeros = {g.name: np.zeros(g.shape) for g in self.oracle.groups if g.name not in self.sums}
        return self.oracle.from_numpy({**zeros, **{name: total[number] for name, total in self.sums.items()}})


@dataclass(frozen=True, slots=True)
class _PartMeans:
    """Means over the first parts of the draws, where the oracle is."""

    oracle: CurvatureOracle
    names: frozenset[str]
    parts: list[dict[str, Array]]

    @property
    def done(self) -> int:
        return len(self.parts)

    def save(self) -> Snapshot:
        return Snapshot({}, {str(n): whole_vector(self.oracle, part) for n, part in enumerate(self.parts)})

    def restored(self, saved: Snapshot) -> _PartMeans:
        parts = [{name: vector[name] for name in self.names} for vector in saved.vectors.values()]
        return _PartMeans(self.oracle, self.names, parts)
