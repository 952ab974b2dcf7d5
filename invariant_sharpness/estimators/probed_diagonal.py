r"""The diagonal from random probes of the Hessian, :math:`\hat h = \varepsilon \circ H(s \circ \varepsilon) / s`, in two stages.

The scales of both stages are equivariant, so every single draw transforms as the diagonal does. The second is
that of the least variance for (17), solved with what the first found.

Draws are summed in a few independent parts, whose differences tell the error of whatever is computed from them: memory holds
one copy of the probed groups per part, however many draws there are.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise
from types import MappingProxyType

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.coordinates.scales import balanced, optimal
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HostArray
from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT, block_size, multiplied
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, HostArrays
from invariant_sharpness.runtime.folder import Snapshot
from invariant_sharpness.runtime.loop import Loop, iterate


def probed_groups(
    oracle: CurvatureOracle, names: frozenset[str], probes: int, seed: int, known: HostArrays = MappingProxyType({})
) -> dict[str, GroupDiagonal]:
    """Probe the named groups: a quarter of the probes, in ``balanced`` coordinates, says which scale is best for the others, which count.

    What is ``known`` of the diagonal of each group is added to what is probed.
    Cost: ``probes`` Hessian-vector products; memory for ten copies of the named groups.
    """
    pilot = range(probes // 4)
    first = probe_means(oracle, names, balanced(oracle), [pilot], seed)
    scale = optimal(oracle, {name: parts[0] + known.get(name, 0.0) for name, parts in first.items()})
    found = probe_means(oracle, names, scale, equal_parts(range(len(pilot), probes)), seed)
    parts = {name: array + known.get(name, 0.0) for name, array in found.items()}
    return {n: GroupDiagonal(parts[n].mean(axis=0), "probes", parts[n]) for n in names}


def probe_means(
    oracle: CurvatureOracle, names: frozenset[str], scale: ParameterVector, parts: list[range], seed: int
) -> dict[str, HostArray]:
    """Return the means of the probes with the indices of each part, stacked; all named groups are probed at once."""
    numbers = list(chain.from_iterable(parts))
    ends, size = frozenset(accumulate(map(len, parts))), block_size(oracle)

    def step(sums: _PartSums) -> _PartSums:
        block = numbers[sums.done : sums.done + size]
        directions = [(scale * random.signs(oracle, seed, number)).only(names) for number in block]
        for direction, product in zip(directions, multiplied(oracle, directions), strict=True):
            sums.add(direction * product / (scale * scale), ends)
        return sums

    settings = (scale, seed, *parts, *sorted(names))
    loop = Loop("probing the diagonal", oracle, settings, total=len(numbers), gradients=GRADIENTS_PER_PRODUCT)
    found = iterate(step, _PartSums(oracle, names), loop).finished
    return {name: np.stack([of[name] / len(part) for of, part in zip(found, parts, strict=True)]) for name in names}


@dataclass
class _PartSums:
    """Sums of draws, part by part: those that are finished on the host, the last one where the oracle is."""

    oracle: CurvatureOracle
    names: frozenset[str]
    done: int = 0
    finished: list[HostArrays] = field(default_factory=list)
    current: ParameterVector | None = None

    def add(self, draw: ParameterVector, ends: Container[int]) -> None:
        """Add a draw to the part that is not finished yet; ``ends`` says after how many draws a part is."""
        self.current = draw if self.current is None else self.current + draw
        self.done += 1
        if self.done in ends:
            self.finished.append(self._host(self.current))
            self.current = None

    def save(self) -> Snapshot:
        parts = {f"{n} {name}": array for n, part in enumerate(self.finished) for name, array in part.items()}
        current = {} if self.current is None else {f"current {k}": a for k, a in self._host(self.current).items()}
        counts = {"done": np.array(self.done), "finished": np.array(len(self.finished))}
        return Snapshot({**counts, **parts, **current})

    def restored(self, saved: Snapshot) -> _PartSums:
        arrays, names = saved.arrays, self.names
        finished: list[HostArrays] = [
            {name: arrays[f"{part} {name}"] for name in names} for part in range(int(arrays["finished"]))
        ]
        current = None
        if "current " + min(names) in arrays:
            zeros = {group.name: np.zeros(group.shape) for group in self.oracle.groups}
            current = self.oracle.from_numpy(zeros | {name: arrays[f"current {name}"] for name in names})
        return _PartSums(self.oracle, names, int(arrays["done"]), finished, current)

    def _host(self, vector: ParameterVector) -> HostArrays:
        return {name: array for name, array in self.oracle.to_numpy(vector).items() if name in self.names}


_COUNTS = (10, 8)
"""Even, so that one half of the parts can be held against the other."""

MOST_PARTS = max(_COUNTS)


def equal_parts(indices: range, most: int = MOST_PARTS) -> list[range]:
    """Cut the indices into ten or eight runs, whichever makes fewer of them longer by one, and into no more than ``most``; fewer indices into single ones."""
    count = min(_COUNTS, key=lambda parts: len(indices) % parts) if len(indices) >= min(_COUNTS) else len(indices)
    if 1 < len(indices) < min(_COUNTS):
        count = len(indices) - len(indices) % 2
    if 1 < most < count:
        count = most - most % 2
    return in_parts(indices, count)


def in_parts(indices: range, count: int) -> list[range]:
    """Cut the indices into so many runs, of which the first ones may be longer by one.

    The mean over the parts of unequal numbers of draws is unbiased, and so is its squared standard error from their scatter: both weigh all parts alike.
    """
    length, longer = divmod(len(indices), max(count, 1))
    starts = [number * length + min(number, longer) for number in range(count + 1)]
    return [indices[start:end] for start, end in pairwise(starts)]
