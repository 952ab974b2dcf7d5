"""Parameter-normalized sharpness: one scale per parameter (Kingma et al. 2015; Tsuzuku et al. 2019, section 7.2)."""

from __future__ import annotations

from functools import partial
from math import fsum, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

from invariant_sharpness.estimators.diagonal_results import HessianDiagonal, planned
from invariant_sharpness.metrics.brackets import OF_THE_RESIDUAL, added_brackets, below_the_minimum, sampled_bracket
from invariant_sharpness.metrics.counted_groups import left_out, require_weights, without_curvature
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.metrics.shared_diagonal import COST_OF_DIAGONAL, estimated
from invariant_sharpness.protocol import CurvatureOracle, HostArrays
from invariant_sharpness.results.estimate import Bracket, Estimate, GroupEstimate

HostArray = npt.NDArray[np.float64]


@metric(
    symbol=r"S_{\mathrm{parameter}}",
    equation=r"\sqrt{2/\lambda}\, \sum_i |\theta_i| \sqrt{\frac{\partial^2 L}{\partial\theta_i^2}}",
    summary="Curvature of each parameter, scaled by the parameter itself.",
    needs="Hessian diagonal of the weights",
    cost=COST_OF_DIAGONAL,
    invariances={"diagonal", "permutation", "unit_split", "output_scale", "output_shift"},
    invariances_with={"biases": {"parameterwise": {"diagonal", "permutation", "unit_split", "output_scale"}}},
    pitfalls=(
        "In the PAC-Bayes bound behind it every parameter has a scale of its own, and the constant that is "
        "left out grows with their number. A weight of exactly zero counts nothing, however sharp the loss is "
        "in it."
    ),
    reference="Kingma, Salimans and Welling (2015); Tsuzuku, Sato and Sugiyama (2019), section 7.2",
    default=True,
)
def parameter_normalized_sharpness(
    oracle: CurvatureOracle,
    *,
    biases: Literal["exclude", "parameterwise"] = "exclude",
    lam: float = 0.5,
    probes: int = 64,
    budget: float | None = None,
    relative_error: float | None = None,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> Estimate:
    r"""Compute parameter-normalized sharpness, :math:`\sqrt{2/\lambda} \sum_i |\theta_i| \sqrt{h_i}`, with :math:`h_i = \partial^2 L/\partial\theta_i^2` clipped at 0.

    The minimum over one variance per parameter, :math:`\sum_i \min_v h_i v + \theta_i^2 / (2 \lambda v)`. At :math:`\lambda = \tfrac12` it is
    :math:`\sum_i 2 |\theta_i| \sqrt{h_i}`, a lower bound of (17). The paper's objection to it: its
    constant grows with the number of parameters.

    Invariant to every diagonal rescaling that leaves the function alone.
    Cost: that of the Hessian diagonal.
    Source: Kingma, Salimans and Welling (2015); Tsuzuku, Sato and Sugiyama (2019), section 7.2.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    biases
        ``"exclude"``: weights alone. ``"parameterwise"``: all parameters.
    lam
        :math:`\lambda` of the PAC-Bayes bound; 1/2 in the paper.
    probes
        Number of Hessian-vector products, or of samples of the outputs, where the diagonal is not exact.
    budget
        What the diagonal may cost in gradients, in the place of ``probes``: it is exact if that fits, see :func:`hessian_diagonal`.
    relative_error
        If given, drawing ends before the ``budget`` is spent where half of what the 95 % interval reaches from the value is no more than this fraction of it.
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
    With the weights 3 and 4 and the curvatures 1 and 2 it is 2 * (3 + 4 * root of 2):

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> round(ish.parameter_normalized_sharpness(oracle).value, 6)
    17.313708
    """
    counted = frozenset(g.name for g in oracle.groups if g.is_weight or biases == "parameterwise")
    require_weights(oracle.groups, counted, "parameter_normalized_sharpness")
    measured = partial(_measured, oracle, counted, lam)
    return estimated(
        measured, oracle, counted, diagonal, probes=probes, budget=budget, relative_error=relative_error, seed=seed
    )


def _measured(oracle: CurvatureOracle, counted: frozenset[str], lam: float, diagonal: HessianDiagonal) -> Estimate:
    weights = oracle.to_numpy(oracle.parameters)
    factor = sqrt(2 / lam)
    shares = {n: parameterwise(weights[n], diagonal[n].values, factor) for n in counted}
    error = diagonal.sampling_error({n: derivative for n, (_, derivative) in shares.items()})
    sides = [_bracket(value, {n: slopes}, weights, diagonal, lam) for n, (value, slopes) in shares.items()]
    return Estimate(
        name="parameter_normalized_sharpness",
        value=fsum(value for value, _ in shares.values()),
        method=diagonal.method(counted),
        standard_error=None if error is None else error.standard_error,
        degrees_of_freedom=None if error is None else error.degrees_of_freedom,
        bracket=None if error is None else added_brackets(sides),
        per_group={
            g.name: GroupEstimate(
                shares[g.name][0],
                diagonal[g.name].method,
                diagonal.standard_error({g.name: shares[g.name][1]}),
                diagonal.note(g.name),
            )
            for g in oracle.groups
            if g.name in counted
        },
        notes=(*left_out(oracle.groups, counted), *without_curvature(diagonal, counted), *planned(diagonal)),
    )


def _bracket(
    value: float, variances: HostArrays, weights: HostArrays, diagonal: HessianDiagonal, lam: float
) -> Bracket:
    """Return the sides of one group; its derivatives in h are the best variances."""
    (name,) = variances
    wide = sampled_bracket(value, weights[name], diagonal[name].values, [diagonal[name].method], sqrt(2 / lam))
    if diagonal[name].method not in OF_THE_RESIDUAL:
        return wide
    below = below_the_minimum(variances, weights, diagonal, lam, lambda arrays: np.array(arrays[name].sum()))
    return Bracket(min(below, value), wide.upper)


def parameterwise(weights: HostArray, curvature: HostArray, factor: float) -> tuple[float, HostArray]:
    r"""Add ``factor * abs(w) * sqrt(h)``, and differentiate the sum in h (zero where h is not positive)."""
    roots = np.sqrt(np.clip(curvature, 0, None))
    terms = factor * np.abs(weights) * roots
    derivative = np.divide(factor * np.abs(weights), 2 * roots, out=np.zeros_like(terms), where=roots > 0)
    return float(terms.sum()), derivative
