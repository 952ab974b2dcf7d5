r"""The diagonal where the outputs are not affine in a group: that of the Gauss-Newton matrix, and draws of what is left.

:math:`h = \operatorname{diag}(G) + \operatorname{diag}(R)`. The first is exact, or from sampled outputs, and never negative where the loss is convex. Of the second, :math:`R = H - G`, a draw takes random
signs at the outputs of one layer, new ones for every example, position and unit, and differentiates through what lies above that layer alone:

.. math:: \hat r = E_n (A_n^T r^{-1} \varepsilon_n) \circ (A_n^T K_n r \varepsilon_n)

Its noise comes from the layer's own outputs alone, and falls with the number of examples, too. A layer with no more outputs than there are draws gets unit
vectors, and is exact. Convolutions are drawn by curvature propagation, at the operations above them, if the plan says so. Groups that belong to no such layer get columns of the Hessian, or probes of R where these are cheaper (:mod:`~invariant_sharpness.estimators.residual_plan`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from invariant_sharpness.coordinates.forwarding import Forwarding
from invariant_sharpness.estimators.column_diagonal import column_groups
from invariant_sharpness.estimators.diagonal_plan import is_large
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HessianDiagonal
from invariant_sharpness.estimators.part_means import add_part_means, part_means
from invariant_sharpness.estimators.parts_of_draws import Parts, added, equal_parts, in_parts, most_parts
from invariant_sharpness.estimators.probed_diagonal import probed_groups
from invariant_sharpness.estimators.residual_plan import GRADIENTS_PER_DRAW, GRADIENTS_PER_OPERATION, Plan
from invariant_sharpness.estimators.sampled_diagonal import sampled_parts
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    GaussNewtonOracle,
    HostArrays,
    LayerUnits,
    NodeCurvatureOracle,
    ResidualDiagonalOracle,
    ResidualProductOracle,
    SampledGaussNewtonOracle,
    capability,
    require,
)
from invariant_sharpness.runtime.loop import Loop
from invariant_sharpness.runtime.memory import give_back_freed


def curved_groups(
    oracle: CurvatureOracle, names: frozenset[str], known: HessianDiagonal, plan: Plan, seed: int
) -> HessianDiagonal:
    """Compute the diagonal of those named groups, which do not pass the affine test, as planned, and return it with that of the Gauss-Newton matrix.

    What is ``known`` of the latter is not computed again, and of large networks none of it is kept: it takes as much memory as the diagonal itself. Cost: what the plan says.
    """
    chosen = plan.only(names)
    whole = column_groups(oracle, chosen.columns) | _probed_whole(oracle, chosen, seed)
    rest = names - chosen.without_gauss_newton
    if not rest:
        return HessianDiagonal(whole)
    ranges = equal_parts(range(plan.draws), min(plan.samples or plan.draws, most_parts(oracle)))
    parts = {name: _parts(known.gauss_newton[name]) for name in rest & known.gauss_newton.keys()}
    parts = {name: values for name, values in parts.items() if len(values) in {1, len(ranges)}}
    if rest - parts.keys():
        parts |= _gauss_newton(oracle, rest - parts.keys(), plan.samples, seed, len(ranges))
    able = require(oracle, ResidualDiagonalOracle, metric="hessian_diagonal")
    kept = {} if is_large(oracle) else {name: _of_gauss_newton(values) for name, values in parts.items()}
    exact = _exact(able, chosen.units)
    found = {name: _group(added(parts.pop(name), residual)) for name, residual in exact.items()}
    drawn = _with_draws({name: parts.pop(name) for name in chosen.drawn}, able, chosen.drawn, ranges, seed)
    propagated = propagated_parts(oracle, chosen.above, ranges, seed)
    found |= {name: of_propagation(added(parts.pop(name), residual)) for name, residual in propagated.items()}
    give_back_freed(oracle)
    means = {name: parts.pop(name).mean(axis=0, dtype=np.float64) for name in chosen.probed & rest}
    found |= _probed(oracle, means, plan.probes, seed)
    # Last, as the means in double precision are twice as large as a part, and probes take memory.
    found |= {name: _group(values) for name, values in drawn.items()}
    return HessianDiagonal({**found, **whole}, gauss_newton=kept)


def _parts(group: GroupDiagonal) -> Parts:
    return group.values[None] if group.parts is None else group.parts


def _of_gauss_newton(parts: Parts) -> GroupDiagonal:
    return GroupDiagonal(parts[0], "exact") if len(parts) == 1 else GroupDiagonal.of_parts(parts, "sampled outputs")


def _group(parts: Parts) -> GroupDiagonal:
    """A single part has no sampling error."""
    return GroupDiagonal(parts[0], "exact (units)") if len(parts) == 1 else GroupDiagonal.of_parts(parts, "layer draws")


def _exact(oracle: ResidualDiagonalOracle, units: Mapping[str, LayerUnits]) -> dict[str, Parts]:
    """Return the exact residual diagonals, of shape (1, *shape)."""
    if not units:
        return {}
    arrays = oracle.to_numpy(oracle.residual_diagonal(oracle.parameters, units))
    return {name: arrays[name][None] for name in units}


def _with_draws(
    gauss_newton: dict[str, Parts],
    oracle: ResidualDiagonalOracle,
    units: Mapping[str, LayerUnits],
    ranges: Sequence[range],
    seed: int,
) -> dict[str, Parts]:
    """Return the Gauss-Newton diagonals with the means of the draws of each part, of shape (parts, *shape)."""
    if not units:
        return {}
    loop = Loop(
        "drawing at layers",
        oracle,
        (gauss_newton, seed, *ranges, *sorted(units)),
        total=len(ranges),
        gradients=GRADIENTS_PER_DRAW * len(units) * len(ranges[0]),
        order=1,
    )
    return add_part_means(
        loop, gauss_newton, ranges, lambda part: oracle.sampled_residual_diagonal(oracle.parameters, units, part, seed)
    )


def propagated_parts(
    oracle: CurvatureOracle, operations: Mapping[str, int], ranges: Sequence[range], seed: int
) -> dict[str, Parts]:
    """Propagate curvature to groups below so many operations, and return the means of the draws of each part, of shape (parts, *shape)."""
    if not operations:
        return {}
    able, names = require(oracle, NodeCurvatureOracle, metric="propagated_diagonal"), frozenset(operations)
    cost = GRADIENTS_PER_OPERATION * max(operations.values()) * len(ranges[0])
    settings = (seed, *ranges, *sorted(names))
    loop = Loop("propagating curvature", oracle, settings, total=len(ranges), gradients=cost, order=1)
    return part_means(
        loop, names, ranges, lambda part: able.propagated_residual_diagonal(oracle.parameters, names, part, seed)
    )


def of_propagation(parts: Parts) -> GroupDiagonal:
    """Return the group of these parts of draws at operations."""
    return GroupDiagonal.of_parts(parts, "curvature propagation")


def _gauss_newton(
    oracle: CurvatureOracle, names: frozenset[str], samples: int, seed: int, parts: int
) -> dict[str, Parts]:
    """Return the Gauss-Newton diagonals: the exact ones, of shape (1, *shape), or means of samples, of shape (parts, *shape).

    The samples are others than those of groups that pass the affine test.
    """
    if not samples:
        exact = require(oracle, GaussNewtonDiagonalOracle, metric="hessian_diagonal")
        arrays = oracle.to_numpy(exact.gauss_newton_diagonal(oracle.parameters, names))
        return {name: arrays[name][None] for name in names}
    sampled = require(oracle, SampledGaussNewtonOracle, metric="hessian_diagonal")
    return sampled_parts(sampled, names, in_parts(range(samples, 2 * samples), parts), seed)


def _probed_whole(oracle: CurvatureOracle, plan: Plan, seed: int) -> dict[str, GroupDiagonal]:
    """Probe the Hessian of those groups that do not take the Gauss-Newton diagonal."""
    names = plan.probed & plan.without_gauss_newton
    return probed_groups(oracle, names, plan.probes, seed) if names else {}


def _probed(oracle: CurvatureOracle, gauss_newton: HostArrays, probes: int, seed: int) -> dict[str, GroupDiagonal]:
    """Probe R on groups that belong to no layer."""
    if not gauss_newton:
        return {}
    names = frozenset(gauss_newton)
    groups = probed_groups(_Residual(oracle, names), names, probes, seed, gauss_newton)
    return {name: GroupDiagonal(group.values, "residual probes", group.parts) for name, group in groups.items()}


class _Residual(Forwarding):
    """The block of the residual part on the named groups in the place of the Hessian."""

    def __init__(self, base: CurvatureOracle, names: frozenset[str]) -> None:
        self.base = base
        self._names = names
        self._multiplying = capability(base, ResidualProductOracle)

    @property
    def parameters(self) -> ParameterVector:
        return self.base.parameters

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        return self.hessian_vector_products(parameters, [vector])[0]

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        """Multiply with R, or where the oracle beneath does not, with H and with G."""
        if self._multiplying is not None:
            return self._multiplying.residual_vector_products(parameters, vectors, self._names)
        gauss_newton = require(self.base, GaussNewtonOracle, metric="hessian_diagonal").gauss_newton_vector_product
        return [
            self.base.hessian_vector_product(parameters, vector) - gauss_newton(parameters, vector)
            for vector in vectors
        ]
