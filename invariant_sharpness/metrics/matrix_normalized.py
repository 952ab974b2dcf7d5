"""Matrix-normalized sharpness, equation (13) of Tsuzuku, Sato and Sugiyama (2019)."""

from __future__ import annotations

from math import fsum, sqrt
from typing import Literal

import numpy as np

from invariant_sharpness.estimators.diagonal_results import HessianDiagonal
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
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> Estimate:
    r"""Compute matrix-normalized sharpness (13), :math:`\sum_l \sqrt{\|W_l\|_F^2\, H_l}` with :math:`H_l = \sum_{w \in W_l} \partial^2 L/\partial w^2`.

    At the optimal variance per matrix, :math:`\sigma_l^2 = \sqrt{\|W_l\|^2 / (2\lambda H_l)}` (11), the bound (10) is
    :math:`\sqrt{2/\lambda}` times this (with the root inside the sum: (12) prints it outside). A negative :math:`H_l` counts as 0.

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
    seed
        Seed of these draws.
    diagonal
        The diagonal of the Hessian, if it is known. Groups that it lacks are computed.

    Returns
    -------
    Estimate
        The sum, with the contribution of each group.

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
    diagonal = diagonal_of(oracle, counted, diagonal, probes=probes, seed=seed)
    weights = oracle.to_numpy(oracle.parameters)
    norms = {name: float(np.sum(weights[name] ** 2)) for name in counted}
    traces = {name: max(float(diagonal[name].values.sum()), 0.0) for name in counted}
    values = {name: sqrt(norms[name] * traces[name]) for name in counted}
    derivatives = {
        name: np.full_like(weights[name], 0.5 * sqrt(norms[name] / traces[name]))
        for name in counted
        if traces[name] > 0
    }
    return Estimate(
        name="matrix_normalized_sharpness",
        value=fsum(values.values()),
        method=diagonal.method(counted),
        standard_error=diagonal.standard_error(derivatives),
        per_group={
            g.name: GroupEstimate(
                values[g.name],
                diagonal[g.name].method,
                diagonal.standard_error({k: v for k, v in derivatives.items() if k == g.name}),
                diagonal.note(g.name),
            )
            for g in oracle.groups
            if g.name in counted
        },
    )
