r"""Draws in a few independent parts, whose scatter tells the error of whatever is computed from them.

Memory holds one copy of the sampled groups per part, however many draws there are.

The diagonal from random probes of the Hessian, :math:`\\hat h = \varepsilon \\circ H(s \\circ \varepsilon) / s`, in two stages.

The scales of both stages are equivariant, so every single draw transforms as the diagonal does. The second is
that of the least variance for (17), solved with what the first found.

The Gauss-Newton diagonal from random combinations of the outputs, for networks with many of them.

A draw :math:`E_n[(J_n^T R_n \varepsilon_n)^2]` is unbiased and never negative, and as the signs belong to the outputs, it transforms
under a rescaling exactly as the diagonal does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.coordinates.scales import balanced, optimal
from invariant_sharpness.estimators.diagonals import GroupDiagonal, HostArray
from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT, block_size, multiplied
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, HostArrays, SampledGaussNewtonOracle
from invariant_sharpness.runtime.folder import Snapshot
from invariant_sharpness.runtime.loop import Loop, iterate

_COUNTS = (10, 8)
"""Even, so that one half of the parts can be held against the other."""


def equal_parts(indices: range) -> list[range]:
    """The indices in ten or eight runs of equal length, whichever leaves fewer out; if they are less, one by one."""
    count = min(_COUNTS, key=lambda parts: len(indices) % parts) if len(indices) >= min(_COUNTS) else len(indices)
    if 1 < len(indices) < min(_COUNTS):
        count = len(indices) - len(indices) % 2
    length = len(indices) // max(count, 1)
    return [indices[number * length : (number + 1) * length] for number in range(count)]


def probed_groups(oracle: CurvatureOracle, names: frozenset[str], probes: int, seed: int) -> dict[str, GroupDiagonal]:
    """A quarter of the probes in the coordinates of ``balanced``, to solve for the scale of the others, which count.

    Cost: ``probes`` Hessian-vector products; memory for ten copies of the named groups.
    """
    pilot = range(probes // 4)
    first = probe_means(oracle, names, balanced(oracle), [pilot], seed)
    scale = optimal(oracle, {name: parts[0] for name, parts in first.items()})
    parts = probe_means(oracle, names, scale, equal_parts(range(len(pilot), probes)), seed)
    return {n: GroupDiagonal(parts[n].mean(axis=0), "probes", parts[n]) for n in names}


def probe_means(
    oracle: CurvatureOracle, names: frozenset[str], scale: ParameterVector, parts: list[range], seed: int
) -> dict[str, HostArray]:
    """Means of the probes with the indices of each part, stacked; all named groups are probed at once."""
    numbers = list(chain.from_iterable(parts))
    length, size = len(parts[0]), block_size(oracle)

    def step(sums: _PartSums) -> _PartSums:
        block = numbers[sums.done : sums.done + size]
        directions = [(scale * random.signs(oracle, seed, number)).only(names) for number in block]
        for direction, product in zip(directions, multiplied(oracle, directions), strict=True):
            sums.add(direction * product / (scale * scale), length)
        return sums

    settings = (scale, seed, *parts, *sorted(names))
    loop = Loop("probing the diagonal", oracle, settings, total=len(numbers), gradients=GRADIENTS_PER_PRODUCT)
    found = iterate(step, _PartSums(oracle, names), loop).finished
    return {name: np.stack([part[name] for part in found]) / length for name in names}


@dataclass
class _PartSums:
    """Sums of draws, part by part: those that are finished on the host, the last one where the oracle is."""

    oracle: CurvatureOracle
    names: frozenset[str]
    done: int = 0
    finished: list[HostArrays] = field(default_factory=list)
    current: ParameterVector | None = None

    def add(self, draw: ParameterVector, length: int) -> None:
        """Add a draw to the part of this length that is not finished yet."""
        self.current = draw if self.current is None else self.current + draw
        self.done += 1
        if self.done % length == 0:
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


_GRADIENTS_PER_DRAW = 1.5
"""What a draw costs in gradients, for the progress that is reported."""


def sampled_groups(
    oracle: SampledGaussNewtonOracle, names: frozenset[str], draws: int, seed: int
) -> dict[str, GroupDiagonal]:
    """The diagonal of certified groups. Cost: ``draws`` backward passes with per-example squaring; ten copies of the groups."""
    parts = equal_parts(range(draws))

    def step(means: _PartMeans) -> _PartMeans:
        drawn = oracle.sampled_gauss_newton_diagonal(oracle.parameters, names, parts[means.done], seed)
        arrays = oracle.to_numpy(drawn)
        return _PartMeans(names, [*means.parts, {name: arrays[name] for name in names}])

    gradients = _GRADIENTS_PER_DRAW * len(parts[0])
    settings = (seed, draws, *sorted(names))
    loop = Loop("sampling outputs", oracle, settings, total=len(parts), gradients=gradients, order=1)
    means = iterate(step, _PartMeans(names, []), loop).parts
    stacked = {name: np.stack([mean[name] for mean in means]) for name in names}
    return {name: GroupDiagonal(values.mean(axis=0), "sampled outputs", values) for name, values in stacked.items()}


@dataclass(frozen=True, slots=True)
class _PartMeans:
    """Means over the first parts of the draws, on the host."""

    names: frozenset[str]
    parts: list[HostArrays]

    @property
    def done(self) -> int:
        return len(self.parts)

    def save(self) -> Snapshot:
        return Snapshot({f"{n} {name}": array for n, part in enumerate(self.parts) for name, array in part.items()})

    def restored(self, saved: Snapshot) -> _PartMeans:
        count = len(saved.arrays) // len(self.names)
        return _PartMeans(
            self.names, [{name: saved.arrays[f"{n} {name}"] for name in self.names} for n in range(count)]
        )
