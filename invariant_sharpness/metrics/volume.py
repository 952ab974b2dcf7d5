"""The volume of a flat region: infinite by definition, and two local surrogates that are not (Dinh et al. 2017)."""

from __future__ import annotations

from math import inf, lgamma, log, pi

import numpy as np

from invariant_sharpness.coordinates import Scaled
from invariant_sharpness.coordinates.scales import balanced
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.lanczos_quadrature import spectral_density
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate


@metric(
    symbol=r"\ln V",
    equation=r"-\tfrac12 \ln\det\bigl(I + \tau^{-1} S H_+ S\bigr)",
    summary="Share of a Gaussian that the flat region around the parameters fills, as a logarithm.",
    needs="Hessian-vector products",
    cost="320 products, 400 to 1000 gradients",
    invariances={"row_column", "output_scale"},
    pitfalls=(
        "``tau`` says what counts as flat, and nothing says what it should be. Negative curvature counts as "
        r"flat. The other local surrogate, the volume of the ellipsoid :math:`\tfrac12 \delta^T H \delta < "
        r"\epsilon`, is infinite as soon as one eigenvalue is zero, which every rescaling symmetry provides: "
        ":func:`~invariant_sharpness.metrics.volume.ellipsoid_log_volume`. The coordinates take a "
        "bias for one more column of its weight, so rows that are normalized without their biases move it, "
        "and so does a shift of the outputs."
    ),
    reference="Dinh, Pascanu, Bengio and Bengio (2017), whose volume is infinite; the surrogate is this library's",
    up_to_error={"permutation"},
)
def flatness_volume(
    oracle: CurvatureOracle, *, tau: float = 1.0, probes: int = 8, steps: int = 40, seed: int = 0
) -> Estimate:
    r"""Estimate the log-volume of the flat region around the parameters, in balanced coordinates and under a Gaussian of width :math:`\tau^{-1/2}`.

    .. math::
        -\tfrac12 \ln\det\bigl(I + \tau^{-1} S H_+ S\bigr) = -\tfrac12 \sum_i \ln\bigl(1 + \max(\lambda_i, 0) / \tau\bigr)

    with the eigenvalues of the Hessian in coordinates S that move as the parameters do (:func:`~invariant_sharpness.coordinates.balanced`). It is the
    logarithm of the share of a Gaussian with precision :math:`\tau` that the Laplace approximation of :math:`e^{-L}` leaves: 0 where the loss is flat,
    and negative where it is sharp. Invariant to row and column rescaling, draw by draw.

    **Why a surrogate**: the volume of the set itself, of all parameters connected with :math:`\theta` whose loss is less than :math:`L(\theta) + \epsilon`, is infinite at every
    minimum of a ReLU network with nonzero weights (Dinh et al. 2017): rescalings carry a small ball along their orbit, which is unbounded.

    Cost: ``probes * steps`` products, and ``steps`` vectors for each probe, or for one at a time.
    Source: the surrogate is this library's; Dinh, Pascanu, Bengio and Bengio (2017) for the volume; Hochreiter and Schmidhuber (1997).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    tau
        Precision of the Gaussian: curvature far below it does not count. In units of the loss.
    probes
        Number of start vectors of the quadrature.
    steps
        Number of Lanczos steps from each start vector, which is that of nodes of its Gauss rule.
    seed
        Seed of the start vectors.

    Returns
    -------
    Estimate
        The logarithm, with the standard error of the quadrature and the bracket of its Gauss rules.

    Raises
    ------
    ArgumentError
        If ``tau`` is not positive, or the vectors do not fit into the memory limit.

    Examples
    --------
    In balanced coordinates, 3 and 4, the eigenvalues are 9 and 32, and the value is half the logarithm of 1 / (10 * 33):

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> round(ish.flatness_volume(oracle).value, 6)
    -2.899546
    """
    if not 0 < tau < inf:
        msg = f"tau={tau}, but a precision is positive and finite"
        raise ArgumentError(msg)
    density = spectral_density(Scaled(oracle, balanced(oracle)), probes=probes, steps=steps, seed=seed)
    return density.trace_of(lambda values: -np.log1p(np.maximum(values, 0) / tau) / 2, name="flatness_volume")


def ellipsoid_log_volume(eigenvalues: np.ndarray, epsilon: float) -> float:
    r"""Compute the log-volume of the ellipsoid :math:`\tfrac12 \delta^T H \delta < \epsilon`.

    .. math:: \ln V_P + \tfrac P2 \ln 2\epsilon - \tfrac12 \ln\det H , \qquad V_P = \pi^{P/2} / \Gamma(P/2 + 1)

    Infinite if an eigenvalue is zero or negative, as that of every rescaling is. Not invariant: a linear map D multiplies the volume by
    :math:`\lvert\det D\rvert`.

    Parameters
    ----------
    eigenvalues
        All P of them, for example of a dense Hessian.
    epsilon
        The loss increase that is allowed.

    Returns
    -------
    float
        The logarithm of the volume, or infinity.

    Examples
    --------
    The ellipse with the half-axes 1 and 1/2 has the area pi / 2:

    >>> import numpy as np
    >>> from invariant_sharpness.metrics.volume import ellipsoid_log_volume
    >>> round(ellipsoid_log_volume(np.array([1.0, 4.0]), epsilon=0.5), 6)
    0.451583
    """
    P = len(eigenvalues)
    if not (eigenvalues > 0).all():
        return inf
    unit_ball = P / 2 * log(pi) - lgamma(P / 2 + 1)
    return unit_ball + P / 2 * log(2 * epsilon) - float(np.log(eigenvalues).sum()) / 2
