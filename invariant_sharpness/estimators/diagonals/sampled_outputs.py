r"""The Gauss-Newton diagonal from random combinations of the outputs, for networks with many of them.

A draw :math:`E_n[(J_n^T R_n \varepsilon_n)^2]` is unbiased and never negative, and as the signs belong to the outputs, it transforms
under a rescaling exactly as the diagonal does.
"""

from __future__ import annotations

import numpy as np

from invariant_sharpness.checkpoints import State, keep, loop_name, resumed
from invariant_sharpness.estimators.diagonals.group_diagonals import GroupDiagonal
from invariant_sharpness.estimators.parts import equal_parts
from invariant_sharpness.progress import track
from invariant_sharpness.protocol import SampledGaussNewtonOracle

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
