"""The minimum of (17) for one layer: over a scale for each row and one for each column, or over one for each parameter."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, sqrt

import numpy as np

from invariant_sharpness.metrics.parameter_normalized import parameterwise
from invariant_sharpness.parameters.groups import Computed
from invariant_sharpness.parameters.matrices import HostArray, LayerMatrix
from invariant_sharpness.protocol import HostArrays, ParameterGroup
from invariant_sharpness.solvers.rows_columns import solve


@dataclass(frozen=True, slots=True)
class LayerMinimum:
    """The minimum of one layer matrix at some curvature: its penalty and variances."""

    name: str
    value: float
    lower_bound: float
    attained: bool
    penalty: float
    variances: HostArrays
    curvature: HostArrays
    matrix: LayerMatrix | None = None

    @property
    def derivatives(self) -> HostArrays:
        """Its derivatives in the curvature: the variances (the envelope theorem), and zero where what is negative was clipped."""
        return Computed(self.variances, lambda name: np.where(self.curvature[name] > 0, self.variances[name], 0.0))


def solved(
    family: LayerMatrix, weights: HostArrays, curvature: HostArrays, lam: float, tolerance: float
) -> LayerMinimum:
    """Solve (17) for a layer matrix; negative curvature is clipped at 0."""
    # The problem (17) of this layer: curvature a, clipped at 0, and squared weights b, summed over kernel positions.
    clipped = {name: np.clip(curvature[name], 0, None) for name in family.names}
    a = family.matrices(clipped)
    b = family.matrices({name: weights[name] ** 2 for name in family.names}) / (2 * lam)
    value, lower, attained, variances = _infimum(a, b, tolerance)
    # The value is linear in the curvature at its minimizer: what does not depend on the curvature is the penalty.
    penalty = value - float(np.sum(a * variances))
    slopes = family.arrays(variances)
    return LayerMinimum(family.weight.name, value, lower, attained, penalty, slopes, curvature, family)


def _infimum(a: HostArray, b: HostArray, tolerance: float) -> tuple[float, float, bool, HostArray]:
    """Solve a stack of independent matrices: value, lower bound, whether attained, and the variances."""
    if 1 in a.shape[1:]:
        return _single_row_or_column(a, b)
    solutions = [solve(x, y, tolerance=tolerance) for x, y in zip(a, b, strict=True)]
    return (
        fsum(s.value for s in solutions),
        fsum(s.lower_bound for s in solutions),
        all(s.attained for s in solutions),
        np.stack([s.variances for s in solutions]),
    )


def _single_row_or_column(a: HostArray, b: HostArray) -> tuple[float, float, bool, HostArray]:
    """Solve a depthwise kernel, every entry of which has a scale of its own: the minimum is ``2 sqrt(a b)``."""
    value = float(2 * (np.sqrt(a) * np.sqrt(b)).sum())
    variances = np.sqrt(np.divide(b, a, out=np.zeros_like(a), where=a > 0))
    return value, value, bool(((a > 0) == (b > 0)).all()), variances


def parameterwise_layer(group: ParameterGroup, weights: HostArrays, curvature: HostArrays, lam: float) -> LayerMinimum:
    """Take the minimum over one scale for each parameter, which has a closed form."""
    value, derivative = parameterwise(weights[group.name], curvature[group.name], sqrt(2 / lam))
    variances = {group.name: derivative}
    return LayerMinimum(group.name, value, value, True, value / 2, variances, curvature)  # noqa: FBT003
