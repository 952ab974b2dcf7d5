"""The Fisher-Rao norm: the full form of Liang et al. (2019), and the diagonal form (25) of Tsuzuku et al. (2019)."""

from __future__ import annotations

from collections.abc import Callable
from math import fsum
from typing import Literal

from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.protocol import CurvatureOracle, ExampleGradientOracle, require
from invariant_sharpness.results.estimate import Estimate, GroupEstimate


@metric(
    symbol=r"\|\theta\|_{\mathrm{fr}}^2",
    equation=r"\sum_i \theta_i^2\, E_n\bigl[(\partial_i \ell_n)^2\bigr]",
    summary="Squared gradients of the examples, scaled by the parameters.",
    needs="per-example gradients",
    cost="one gradient with per-example squares: 1.3 to 1.9 gradients",
    invariances={"diagonal", "permutation", "output_scale"},
    invariances_with={"form": {"full": {"linear", "unit_split", "output_scale"}}},
    pitfalls=(
        "It is made of gradients, not of curvature, so it vanishes where every example is fitted. The "
        "diagonal form doubles when a unit that was split into two equal halves is merged again; the full "
        "form does not (erratum E6). Biases count, so a shift of the outputs moves it."
    ),
    reference="Tsuzuku, Sato and Sugiyama (2019), (25); Liang, Poggio, Rakhlin and Stokes (2019)",
    default=True,
)
def fisher_rao_norm(oracle: CurvatureOracle, *, form: Literal["diagonal", "full"] = "diagonal") -> Estimate:
    r"""Compute the Fisher-Rao norm of the parameters, with the empirical Fisher matrix :math:`F = E_n[\nabla\ell_n \nabla\ell_n^T]`.

    ``form="diagonal"``: :math:`\sum_i \theta_i^2\, E_n[(\partial_i \ell_n)^2]`, equation (25). Invariant to every
    diagonal rescaling that leaves the function alone. Cost: one gradient, with per-example squares.

    ``form="full"``: :math:`\theta^T F \theta = E_n[(\theta \cdot \nabla\ell_n)^2]`, the (squared) norm of Liang et al. Invariant to every
    linear map that leaves the function alone, and to splitting a unit into two, which doubles or halves the diagonal
    form. Cost: three gradients.

    Both take all parameters, biases too, and the labels of the data.
    Source: Tsuzuku, Sato and Sugiyama (2019), (25); Liang, Poggio, Rakhlin and Stokes (2019).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    form
        ``"diagonal"`` or ``"full"``.

    Returns
    -------
    Estimate
        The squared norm, exact up to rounding; in the diagonal form with the contribution of each group.

    Raises
    ------
    MissingCapabilityError
        If the oracle cannot tell the examples apart.
    ArgumentError
        If the form is not known.
    NonFiniteError
        If the squares are below the smallest number of the precision, and the gradients are not. Then one more gradient was taken.

    Examples
    --------
    One weight of 2, and three residuals of 1, -1 and 1, whose gradients are 2 or -2: the value is 4 * 4.

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> network = ReluNetwork((np.array([[2.0]]),))
    >>> oracle = ish.oracle(network, (np.ones((3, 1)), np.array([[1.0], [1.0], [3.0]])), loss="mse")
    >>> ish.fisher_rao_norm(oracle).value
    16.0
    """
    examples = require(oracle, ExampleGradientOracle, metric="fisher_rao_norm")
    parameters = oracle.parameters
    if form == "full":
        value = examples.directional_second_moment(parameters, parameters)
        _refuse_underflow(value, lambda: abs(parameters.dot(oracle.gradient(parameters))))
        return Estimate("fisher_rao_norm", value, "exact (full form)")
    moments = parameters * parameters * examples.gradient_second_moment(parameters)
    shares = {g.name: float(oracle.xp.sum(moments[g.name])) for g in oracle.groups}
    value, groups = fsum(shares.values()), {name: GroupEstimate(share, "exact") for name, share in shares.items()}
    _refuse_underflow(value, lambda: (parameters * oracle.gradient(parameters)).norm())
    return Estimate("fisher_rao_norm", value, "exact", per_group=groups)


def _refuse_underflow(mean_square: float, mean: Callable[[], float]) -> None:
    """A mean of squares is at least the square of the mean, unless the squares are below the smallest number of this precision."""
    if mean_square == 0 and (size := mean()) > 0:
        msg = (
            f"fisher_rao_norm is zero, although theta times the mean gradient is not ({size:.2g}): the squares are below the "
            f'smallest number of this precision. Measure in double precision, with dtype="float64" or float64 data'
        )
        raise NonFiniteError(msg)
