r"""The diagonal from random probes of the Hessian, :math:`\hat h = \varepsilon \circ H(s \circ \varepsilon) / s`, in two stages.

The scales of both stages are equivariant, so every single draw transforms as the diagonal does. The second is
that of the least variance for (17), solved with what the first found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from invariant_sharpness import probes as random
from invariant_sharpness.checkpoints import State, keep, loop_name, resumed
from invariant_sharpness.coordinates.scales import balanced, optimal
from invariant_sharpness.estimators.diagonals.group_diagonals import GroupDiagonal, HostArray
from invariant_sharpness.estimators.kept_products import ends_block
from invariant_sharpness.estimators.parts import equal_parts
from invariant_sharpness.estimators.products import hessian_vector_products
from invariant_sharpness.protocol import CurvatureOracle, HostArrays
from invariant_sharpness.vector import ParameterVector


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
