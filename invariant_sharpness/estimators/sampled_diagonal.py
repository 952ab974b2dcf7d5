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
from invariant_sharpness.estimators.products import ends_block, hessian_vector_products
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, HostArrays, SampledGaussNewtonOracle
from invariant_sharpness.runtime.checkpoints import State, keep, loop_name, resumed
from invariant_sharpness.runtime.progress import track

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
    loop = loop_name("probing the diagonal", oracle, oracle.parameters / scale, seed, *parts, *sorted(names))
    sums = _PartSums.resumed(oracle, loop, names)
    indices = list(chain.from_iterable(parts))[sums.draws :]
    directions = ((scale * random.signs(oracle, seed, index)).only(names) for index in indices)
    pairs = hessian_vector_products(oracle, directions, len(indices), "probing the diagonal")
    for direction, product in pairs:
        sums.add(direction * product / (scale * scale), length=len(parts[0]))
        if ends_block(oracle, sums.draws, sum(map(len, parts))):
            keep(loop, sums.state)
    return {name: np.stack([part[name] for part in sums.finished]) / len(parts[0]) for name in names}


@dataclass
class _PartSums:
    """Sums of draws, part by part: those that are finished on the host, the last one where the oracle is."""

    oracle: CurvatureOracle
    names: frozenset[str]
    draws: int = 0
    finished: list[HostArrays] = field(default_factory=list)
    current: ParameterVector | None = None

    @classmethod
    def resumed(cls, oracle: CurvatureOracle, loop: str, names: frozenset[str]) -> _PartSums:
        kept = resumed(loop)
        if kept is None:
            return cls(oracle, names)
        state = kept.arrays
        finished: list[HostArrays] = [
            {name: state[f"{part} {name}"] for name in names} for part in range(int(state["finished"]))
        ]
        current = None
        if "current " + min(names) in state:
            zeros = {group.name: np.zeros(group.shape) for group in oracle.groups}
            current = oracle.from_numpy(zeros | {name: state[f"current {name}"] for name in names})
        return cls(oracle, names, int(state["draws"]), finished, current)

    def add(self, draw: ParameterVector, length: int) -> None:
        self.current = draw if self.current is None else self.current + draw
        self.draws += 1
        if self.draws % length == 0:
            self.finished.append(self._host(self.current))
            self.current = None

    def state(self) -> State:
        parts = {f"{n} {name}": array for n, part in enumerate(self.finished) for name, array in part.items()}
        current = {} if self.current is None else {f"current {k}": a for k, a in self._host(self.current).items()}
        counts = {"draws": np.array(self.draws), "finished": np.array(len(self.finished))}
        return State({**counts, **parts, **current})

    def _host(self, vector: ParameterVector) -> HostArrays:
        return {name: array for name, array in self.oracle.to_numpy(vector).items() if name in self.names}


_GRADIENTS = 1.5
"""What a draw costs in gradients, for the progress that is reported."""


def sampled_groups(
    oracle: SampledGaussNewtonOracle, names: frozenset[str], draws: int, seed: int
) -> dict[str, GroupDiagonal]:
    """The diagonal of certified groups. Cost: ``draws`` backward passes with per-example squaring; ten copies of the groups."""
    parts = equal_parts(range(draws))
    loop = loop_name("sampling outputs", oracle, oracle.parameters, seed, draws, *sorted(names))
    state = (resumed(loop) or State()).arrays
    means = [{name: state[f"{n} {name}"] for name in names} for n in range(len(state) // len(names))]
    for part in track(parts[len(means) :], "sampling outputs", len(parts), gradients=_GRADIENTS * len(parts[0])):
        drawn = oracle.to_numpy(oracle.sampled_gauss_newton_diagonal(oracle.parameters, names, part, seed))
        means.append({name: drawn[name] for name in names})
        keep(
            loop, lambda: State({f"{n} {name}": array for n, mean in enumerate(means) for name, array in mean.items()})
        )
    stacked = {name: np.stack([mean[name] for mean in means]) for name in names}
    return {name: GroupDiagonal(values.mean(axis=0), "sampled outputs", values) for name, values in stacked.items()}
