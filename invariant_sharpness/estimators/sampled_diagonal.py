r"""The Gauss-Newton diagonal from random combinations of the outputs, for networks with many of them.

A draw :math:`E_n[(J_n^T R_n \varepsilon_n)^2]` is unbiased and never negative, and as the signs belong to the outputs, it transforms
under a rescaling exactly as the diagonal does. The draws are cut into parts as in :mod:`~invariant_sharpness.estimators.probed_diagonal`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HostArray
from invariant_sharpness.estimators.probed_diagonal import equal_parts
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import HostArrays, SampledGaussNewtonOracle
from invariant_sharpness.runtime.folder import Snapshot
from invariant_sharpness.runtime.loop import Loop, iterate

_GRADIENTS_PER_DRAW = 1.5
"""What a draw costs in gradients, for the progress that is reported: 0.6 on vectors, 3 on sequences."""


def sampled_groups(
    oracle: SampledGaussNewtonOracle, names: frozenset[str], draws: int, seed: int
) -> dict[str, GroupDiagonal]:
    """Sample the diagonal of groups that pass the affine test.

    Cost: ``draws`` backward passes with per-example squaring. Memory: ten copies of the groups.
    """
    parts = sampled_parts(oracle, names, equal_parts(range(draws)), seed)
    return {name: GroupDiagonal(values.mean(axis=0), "sampled outputs", values) for name, values in parts.items()}


def sampled_parts(
    oracle: SampledGaussNewtonOracle, names: frozenset[str], parts: Sequence[range], seed: int
) -> dict[str, HostArray]:
    """Return the means over the draws of each part, stacked."""
    gradients = _GRADIENTS_PER_DRAW * len(parts[0])
    settings = (seed, *parts, *sorted(names))
    loop = Loop("sampling outputs", oracle, settings, total=len(parts), gradients=gradients, order=1)
    return part_means(
        loop,
        names,
        parts,
        lambda part: oracle.sampled_gauss_newton_diagonal(oracle.parameters, names, part, seed),
    )


def part_means(
    loop: Loop, names: Collection[str], parts: Sequence[range], mean: Callable[[range], ParameterVector]
) -> dict[str, HostArray]:
    """Take the mean of each part of some draws, on the named groups, and stack them on the host."""

    def step(means: _PartMeans) -> _PartMeans:
        arrays = loop.oracle.to_numpy(mean(parts[means.done]))
        return _PartMeans(means.names, [*means.parts, {name: arrays[name] for name in names}])

    found = iterate(step, _PartMeans(frozenset(names), []), loop).parts
    return {name: np.stack([part[name] for part in found]) for name in names}


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
