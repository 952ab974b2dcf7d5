"""Matrix-normalized sharpness, equation (13) of Tsuzuku, Sato and Sugiyama (2019)."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, sqrt
from typing import Literal, NamedTuple

import numpy as np

from invariant_sharpness.estimators.diagonal_results import HessianDiagonal, HostArray, SamplingError, planned
from invariant_sharpness.metrics.counted_groups import left_out, require_weights, without_curvature
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.metrics.shared_diagonal import COST_OF_DIAGONAL, diagonal_of
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate, GroupEstimate


@metric(
    symbol=r"S_{\mathrm{matrix}}",
    equation=r"\sum_l \sqrt{\|W_l\|_F^2 \sum_{w \in W_l} \frac{\partial^2 L}{\partial w^2}}",
    summary="Trace of each layer, scaled by the norm of its matrix.",
    needs="Hessian diagonal of the weights",
    cost=COST_OF_DIAGONAL,
    invariances={"layer", "permutation", "output_scale", "output_shift"},
    invariances_with={"biases": {"own_group": {"layer", "permutation", "output_scale"}}},
    pitfalls=(
        "It has one scale per matrix, so rescaling single units moves it without bound. Positive and negative "
        "curvature cancel within a matrix before the sum is clipped."
    ),
    reference="Tsuzuku, Sato and Sugiyama (2019), (13)",
    default=True,
)
def matrix_normalized_sharpness(
    oracle: CurvatureOracle,
    *,
    biases: Literal["exclude", "own_group"] = "exclude",
    probes: int = 64,
    budget: float | None = None,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> Estimate:
    r"""Compute matrix-normalized sharpness (13), :math:`\sum_l \sqrt{\|W_l\|_F^2\, H_l}` with :math:`H_l = \sum_{w \in W_l} \partial^2 L/\partial w^2`.

    At the optimal variance per matrix, :math:`\sigma_l^2 = \sqrt{\|W_l\|^2 / (2\lambda H_l)}` (11), the bound (10) is
    :math:`\sqrt{2/\lambda}` times this (with the root inside the sum: (12) prints it outside). A negative :math:`H_l` counts as 0, with an error
    where it was sampled.

    Invariant to layer rescaling, in each matrix; **not** to row and column rescaling.
    Cost: that of the Hessian diagonal of the weights.
    Source: Tsuzuku, Sato and Sugiyama (2019), (13).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    biases
        ``"exclude"``: weights alone. ``"own_group"``: every bias and norm gain is one more group, as in the
        paper's footnote 1.
    probes
        Number of Hessian-vector products, or of samples of the outputs, where the diagonal is not exact.
    budget
        What the diagonal may cost in gradients, in the place of ``probes``: it is exact if that fits, see :func:`hessian_diagonal`.
    seed
        Seed of these draws.
    diagonal
        The diagonal of the Hessian, if it is known. Groups that it lacks are computed.

    Returns
    -------
    Estimate
        The sum, with the contribution of each group.

    Raises
    ------
    ModelError
        If no weight counts.

    Examples
    --------
    A single matrix of squared norm 25 and trace 3 has the value root of 75:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> round(ish.matrix_normalized_sharpness(oracle).value, 6)
    8.660254
    """
    counted = frozenset(g.name for g in oracle.groups if g.is_weight or biases == "own_group")
    require_weights(oracle.groups, counted, "matrix_normalized_sharpness")
    diagonal = diagonal_of(oracle, counted, diagonal, probes=probes, budget=budget, seed=seed)
    weights = oracle.to_numpy(oracle.parameters)
    layers = [_layer(g.name, weights[g.name], diagonal) for g in oracle.groups if g.name in counted]
    error = _error(layers, diagonal)
    return Estimate(
        name="matrix_normalized_sharpness",
        value=fsum(layer.value for layer in layers),
        method=diagonal.method(counted),
        standard_error=None if error is None else error.standard_error,
        degrees_of_freedom=None if error is None else error.degrees_of_freedom,
        per_group={
            layer.name: GroupEstimate(layer.value, diagonal[layer.name].method, layer.error, _note(layer, diagonal))
            for layer in layers
        },
        notes=(*left_out(oracle.groups, counted), *without_curvature(diagonal, counted), *planned(diagonal)),
    )


_REACH = 4.0
"""So many standard errors of a trace the error of its root is made for: the quantile of a 99 % interval at few degrees of freedom."""


class _Layer(NamedTuple):
    """The root of a norm and a trace. Where sampling may bring the trace to zero, its error is no multiple of the trace's."""

    name: str
    value: float
    trace: float
    error: float | None
    slopes: HostArray | None


def _layer(name: str, weights: HostArray, diagonal: HessianDiagonal) -> _Layer:
    r"""Return :math:`\sqrt{N H}` of one group, with the slope of its chord in H, or with an error where the root meets zero.

    Over d below H the root falls by :math:`\sqrt{N}(\sqrt{H} - \sqrt{H - d})`, which is up to twice what its tangent says. So the slope is
    that of the chord over ``_REACH`` standard errors s. Where these bring H to zero, the root is off by no more than
    :math:`q\sqrt{N} \min(s / \sqrt{H}, \sqrt{s})` if H is by q s; below zero it is 0 with an error that is gone where H is far below.
    """
    norm, trace = float(np.sum(weights**2)), float(diagonal[name].values.sum())
    value, scatter = sqrt(norm * max(trace, 0.0)), diagonal.standard_error({name: np.ones_like(weights)})
    if scatter is None:
        return _Layer(name, value, trace, None, None)
    if trace > _REACH * scatter:
        fallen = _REACH * scatter
        slope = sqrt(norm) * (sqrt(trace) - sqrt(trace - fallen)) / fallen if fallen > 0 else sqrt(norm / trace) / 2
        return _Layer(name, value, trace, slope * scatter, np.full_like(weights, slope))
    if trace > 0:
        return _Layer(name, value, trace, sqrt(norm) * min(scatter / sqrt(trace), sqrt(scatter)), None)
    return _Layer(name, value, trace, sqrt(norm * max(scatter + trace / _REACH, 0.0)), None)


def _error(layers: Sequence[_Layer], diagonal: HessianDiagonal) -> SamplingError | None:
    """Add the errors: groups of the same draws err together as their slopes say, and the others at worst all to one side."""
    sampled = [layer for layer in layers if layer.error is not None]
    if not sampled:
        return None
    joint = diagonal.sampling_error({layer.name: layer.slopes for layer in sampled if layer.slopes is not None})
    each = [diagonal.sampling_error({layer.name: np.ones_like(diagonal[layer.name].values)}) for layer in sampled]
    alone = fsum(layer.error for layer in sampled if layer.slopes is None and layer.error is not None)
    freedom = min(error.degrees_of_freedom for error in each if error is not None)
    return SamplingError(alone + (0.0 if joint is None else joint.standard_error), freedom)


def _note(layer: _Layer, diagonal: HessianDiagonal) -> str:
    clipped = "its trace came out negative and counts 0" if layer.trace < 0 else ""
    return "; ".join(filter(None, [diagonal.note(layer.name), clipped]))
