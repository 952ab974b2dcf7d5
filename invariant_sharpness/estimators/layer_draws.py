r"""The diagonal where the outputs are not affine in a group: that of the Gauss-Newton matrix, and draws of what is left.

:math:`h = \operatorname{diag}(G) + \operatorname{diag}(R)`. The first is exact, or from sampled outputs, and never negative where the loss is convex. Of the second, :math:`R = H - G`, a draw takes random
signs at the outputs of one layer, new ones for every example, position and unit, and differentiates through what lies above that layer alone:

.. math:: \hat r = E_n (A_n^T r^{-1} \varepsilon_n) \circ (A_n^T K_n r \varepsilon_n)

Its noise comes from the layer's own outputs alone, and falls with the number of examples, too. A layer with no more outputs than there are draws gets unit
vectors, and is exact. Groups that belong to no such layer get columns of the Hessian, or probes of R where these are cheaper (:mod:`~invariant_sharpness.estimators.residual_plan`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from invariant_sharpness.coordinates.forwarding import Forwarding
from invariant_sharpness.estimators.affine_test import exact_groups
from invariant_sharpness.estimators.column_diagonal import column_groups
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HostArray
from invariant_sharpness.estimators.probed_diagonal import equal_parts, probed_groups
from invariant_sharpness.estimators.residual_plan import GRADIENTS_PER_DRAW, number_of_draws, plan, residual_probes
from invariant_sharpness.estimators.sampled_diagonal import part_means, sampled_parts
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    GaussNewtonOracle,
    HostArrays,
    LayerUnits,
    ResidualDiagonalOracle,
    SampledGaussNewtonOracle,
    capability,
    require,
)
from invariant_sharpness.runtime.loop import Loop

MOST_OUTPUTS = 256
"""Above this many outputs per example the exact diagonal would take as many backward passes: outputs are sampled."""


def curved_groups(
    oracle: CurvatureOracle, names: frozenset[str], defects: Mapping[str, float], probes: int, seed: int
) -> dict[str, GroupDiagonal]:
    """Estimate the diagonal of those named groups, which do not pass the affine test; ``defects`` are its verdicts.

    Cost: about as many gradients as ``probes`` Hessian-vector products, and the Gauss-Newton diagonal. Where the oracle cannot tell its layers apart, or has
    no Gauss-Newton diagonal: that of the products.
    """
    able = capability(oracle, ResidualDiagonalOracle)
    if able is None or not has_gauss_newton_diagonal(oracle):
        return probed_groups(oracle, names, probes, seed)
    known = able.layer_units(oracle.parameters)
    curved = frozenset(group.name for group in oracle.groups) - exact_groups(oracle, defects) | names
    draws = number_of_draws(oracle, known.keys() & curved, probes)
    chosen = plan(oracle, curved, known, draws, probes, _terms(oracle, probes)).only(names)
    ranges, rest = equal_parts(range(draws)), names - chosen.columns
    gauss_newton = _gauss_newton(oracle, rest, probes, seed, len(ranges)) if rest else {}
    residuals = {**_exact(able, chosen.units), **_drawn(able, chosen.drawn, ranges, seed)}
    parts = {name: gauss_newton[name] + residual for name, residual in residuals.items()}
    outside = {name: gauss_newton[name].mean(axis=0) for name in chosen.probed}
    found = {name: _group(values) for name, values in parts.items()} | _probed(oracle, outside, probes, seed)
    return found | column_groups(oracle, chosen.columns)


def _group(parts: HostArray) -> GroupDiagonal:
    """A single part has no sampling error."""
    return (
        GroupDiagonal(parts[0], "exact (units)")
        if len(parts) == 1
        else GroupDiagonal(parts.mean(axis=0), "layer draws", parts)
    )


def _exact(oracle: ResidualDiagonalOracle, units: Mapping[str, LayerUnits]) -> HostArrays:
    """Return the exact residual diagonals, of shape (1, *shape)."""
    if not units:
        return {}
    arrays = oracle.to_numpy(oracle.residual_diagonal(oracle.parameters, units))
    return {name: arrays[name][None] for name in units}


def _drawn(
    oracle: ResidualDiagonalOracle, units: Mapping[str, LayerUnits], ranges: Sequence[range], seed: int
) -> HostArrays:
    """Return the means of the draws of each part, of shape (parts, *shape)."""
    if not units:
        return {}
    loop = Loop(
        "drawing at layers",
        oracle,
        (seed, *ranges, *sorted(units)),
        total=len(ranges),
        gradients=GRADIENTS_PER_DRAW * len(units) * len(ranges[0]),
        order=1,
    )
    return part_means(
        loop, units, ranges, lambda part: oracle.sampled_residual_diagonal(oracle.parameters, units, part, seed)
    )


def has_gauss_newton_diagonal(oracle: CurvatureOracle) -> bool:
    """Whether the diagonal of the Gauss-Newton matrix is exact for few outputs, or can be sampled."""
    exact, sampled = capability(oracle, GaussNewtonDiagonalOracle), capability(oracle, SampledGaussNewtonOracle)
    few = exact is not None and exact.outputs_per_example <= MOST_OUTPUTS
    return few or (sampled is not None and sampled.samples_outputs)


def _terms(oracle: CurvatureOracle, probes: int) -> int:
    """Return how many backward passes the Gauss-Newton diagonal takes."""
    outputs = require(oracle, GaussNewtonDiagonalOracle, metric="hessian_diagonal").outputs_per_example
    return outputs if outputs <= MOST_OUTPUTS else probes


def _gauss_newton(oracle: CurvatureOracle, names: frozenset[str], probes: int, seed: int, parts: int) -> HostArrays:
    """Return the Gauss-Newton diagonals: the exact ones, of shape (1, *shape), or means of draws, of shape (parts, *shape).

    The draws are others than those of groups that pass the affine test.
    """
    exact = require(oracle, GaussNewtonDiagonalOracle, metric="hessian_diagonal")
    if exact.outputs_per_example <= MOST_OUTPUTS:
        arrays = oracle.to_numpy(exact.gauss_newton_diagonal(oracle.parameters, names))
        return {name: arrays[name][None] for name in names}
    sampled, length = require(oracle, SampledGaussNewtonOracle, metric="hessian_diagonal"), max(1, probes // parts)
    ranges = [range(probes + number * length, probes + (number + 1) * length) for number in range(parts)]
    return sampled_parts(sampled, names, ranges, seed)


def _probed(oracle: CurvatureOracle, gauss_newton: HostArrays, probes: int, seed: int) -> dict[str, GroupDiagonal]:
    """Probe R on groups that belong to no layer: a product with it takes one with H and one with G."""
    if not gauss_newton:
        return {}
    groups = probed_groups(_Residual(oracle), frozenset(gauss_newton), residual_probes(probes), seed, gauss_newton)
    return {name: GroupDiagonal(group.values, "residual probes", group.parts) for name, group in groups.items()}


class _Residual(Forwarding):
    """The residual part of the Hessian in its place."""

    def __init__(self, base: CurvatureOracle) -> None:
        self.base = base
        self._gauss_newton = require(base, GaussNewtonOracle, metric="hessian_diagonal")

    @property
    def parameters(self) -> ParameterVector:
        return self.base.parameters

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        product = self.base.hessian_vector_product(parameters, vector)
        return product - self._gauss_newton.gauss_newton_vector_product(parameters, vector)

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        return [self.hessian_vector_product(parameters, vector) for vector in vectors]
