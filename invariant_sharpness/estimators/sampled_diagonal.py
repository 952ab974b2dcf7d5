r"""The Gauss-Newton diagonal from random combinations of the outputs, for networks with many of them.

A draw :math:`E_n[(J_n^T R_n \varepsilon_n)^2]` is unbiased and never negative, and as the signs belong to the outputs, it transforms
under a rescaling exactly as the diagonal does. The draws are cut into parts (:mod:`~invariant_sharpness.estimators.parts_of_draws`).
"""

from __future__ import annotations

from collections.abc import Sequence

from invariant_sharpness.estimators.diagonal_results import GroupDiagonal
from invariant_sharpness.estimators.part_means import part_means
from invariant_sharpness.estimators.parts_of_draws import Parts, equal_parts, most_parts
from invariant_sharpness.protocol import SampledGaussNewtonOracle
from invariant_sharpness.runtime.loop import Loop

_GRADIENTS_PER_DRAW = 1.5
"""What a draw costs in gradients, for the progress that is reported: 0.6 on vectors, 3 on sequences."""


def sampled_groups(
    oracle: SampledGaussNewtonOracle, names: frozenset[str], draws: int, seed: int
) -> dict[str, GroupDiagonal]:
    """Sample the diagonal of groups that pass the affine test.

    Cost: ``draws`` backward passes with per-example squaring. Memory: a copy of the groups for each part, in their own precision.
    """
    parts = sampled_parts(oracle, names, equal_parts(range(draws), most_parts(oracle)), seed)
    return {name: GroupDiagonal.of_parts(values, "sampled outputs") for name, values in parts.items()}


def sampled_parts(
    oracle: SampledGaussNewtonOracle, names: frozenset[str], parts: Sequence[range], seed: int
) -> dict[str, Parts]:
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
