"""Sharpness of the best posterior, equation (62) of Tsuzuku, Sato and Sugiyama (2019), appendix D."""

from __future__ import annotations

from math import sqrt

import numpy as np

from invariant_sharpness.deprecation import renamed
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal, planned
from invariant_sharpness.estimators.perturbed_losses import perturbed_losses
from invariant_sharpness.estimators.posterior_fit import SampledObjective, best_scales, fitted_scales
from invariant_sharpness.metrics.counted_groups import left_out, require_weights
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.metrics.shared_diagonal import diagonal_of
from invariant_sharpness.parameters.matrices import weights_alone
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate


@metric(
    symbol=r"S_{\mathrm{posterior}}",
    equation=(
        r"\min_{\sigma, \sigma' > 0} E_\epsilon\bigl[L(\theta + \sigma\sigma' \circ \epsilon)\bigr] - L(\theta) "
        r"+ \sum_l \sum_{ij} \frac{W_{ij}^2}{2\lambda (\sigma_i \sigma'_j)^2}"
    ),
    summary="Loss increase under the noise that is best in a PAC-Bayes bound, with the price of that noise.",
    needs="gradients, and the Hessian diagonal of the weights to start from",
    cost="32 losses and gradients per iteration of the fit, some 50 iterations: about 2000 gradients; and the diagonal",
    invariances={"row", "row_column", "output_shift"},
    pitfalls=(
        r"The problem is not convex, and its solution depends on :math:`\lambda` in more than a factor, so "
        r"values of two networks may change their order with :math:`\lambda`. Where the loss is bounded, as the "
        r"normalized cross-entropy nearly is, and :math:`\lambda` is small, the best noise grows without end, "
        "and the value is the loss of a network without weights; a note says so. There, and in attention "
        "heads, the fit wanders, and rounding decides where it ends: the value is then the same only up to "
        "its standard error, on another framework or after a rescaling that is not seen. See :doc:`pac_bayes`."
    ),
    reference="Tsuzuku, Sato and Sugiyama (2019), (62)",
    up_to_error={"permutation", "query_key", "value_output"},
)
@renamed(steps="max_iterations")
def posterior_sharpness(
    oracle: CurvatureOracle,
    *,
    lam: float = 0.5,
    draws: int = 16,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
    probes: int = 64,
    budget: float | None = None,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> Estimate:
    r"""Compute the sharpness of the best posterior (62): as (17), but with the loss itself in place of its second derivative.

    .. math::
        \min_{\sigma, \sigma' > 0} E_\epsilon\bigl[L(\theta + \sigma\sigma' \circ \epsilon)\bigr] - L(\theta)
        + \sum_l \sum_{ij} \frac{W_{ij}^2}{2\lambda (\sigma_i \sigma'_j)^2}, \qquad \epsilon \sim N(0, I)

    One scale per output unit and one per input unit of each weight, as in :func:`normalized_sharpness`; biases and norm
    parameters get no noise. The noise is drawn once, in pairs of opposite sign, and the scales are fitted to it by L-BFGS-B
    with the exact gradient, from the solution of (17) with the factor one half that it lacks. As a minimum over fitted draws is
    too small, the value is that of the fitted scales on as many **fresh** draws. It is an upper bound of (62) in
    expectation, up to the standard error, which is theirs.

    Invariant to layer, row and column rescaling, noise by noise: the same seed gives the same value, up to rounding that the
    steps of the fit may amplify where the loss has many kinks. Unlike (17)
    it depends on :math:`\lambda` in more than a factor. For a loss that is quadratic it is :math:`\sqrt{1/2}` times (17) at the same
    :math:`\lambda`. Away from a minimum noise may lower the loss, and the value may be negative.

    The problem is not convex: what is found is the minimum near that of (17). Weights that cost nothing in (17), as those of
    dead units, get no noise.

    Cost: that of the Hessian diagonal, and two losses and two gradients per draw and iteration, some 50 iterations. Memory for a few vectors.
    Source: Tsuzuku, Sato and Sugiyama (2019), (62), arXiv version; there minimized by stochastic gradient descent.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    lam
        :math:`\lambda` of the PAC-Bayes bound. The larger it is, the smaller is the noise. At 1/2, which makes
        values comparable with those of (17), it is larger than the weights in most trained networks.
    draws
        Number of pairs of noise to fit to, and of as many others to measure with.
    tolerance
        Decrease at which the fit has converged, relative to its start.
    max_iterations
        Largest number of iterations of the fit.
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
        The value on fresh draws, with their standard error.

    Raises
    ------
    ArgumentError
        If ``draws`` is less than 2 or ``lam`` is not positive.

    Examples
    --------
    For a quadratic loss it is root of 1/2 times (17), which is 2 * 2 for one weight of 2 with curvature 1:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.eye(1), np.array([[2.0]]))
    >>> estimate = ish.posterior_sharpness(oracle)
    >>> abs(estimate.value - 2 * 2 / 2**0.5) < 3 * estimate.standard_error
    True
    """
    _check(lam, draws)
    families = weights_alone(oracle.groups)
    names = frozenset(family.weight.name for family in families)
    require_weights(oracle.groups, names, "posterior_sharpness")
    diagonal = diagonal_of(oracle, names, diagonal, probes=probes, budget=budget, seed=seed)
    weights = oracle.to_numpy(oracle.parameters)
    layers = [best_scales(f, weights[f.weight.name], diagonal[f.weight.name].values, lam) for f in families]
    objective = SampledObjective(oracle, layers, range(draws), seed)
    fit = fitted_scales(objective, tolerance=tolerance, max_iterations=max_iterations)

    def on_fresh_draws(point: np.ndarray) -> tuple[float, float]:
        fresh = perturbed_losses(oracle, objective.deviations(point), range(draws, 2 * draws), seed, oracle.loss)
        rise = float(fresh.mean()) - oracle.loss(oracle.parameters)
        return rise + objective.penalty(point), float(fresh.std(ddof=1)) / sqrt(draws)

    value, error = on_fresh_draws(fit.point)
    at_start, _ = on_fresh_draws(objective.start)
    return Estimate(
        name="posterior_sharpness",
        value=value,
        method=f"L-BFGS-B on {draws} pairs of draws, measured on {draws} others",
        standard_error=error,
        degrees_of_freedom=draws - 1,
        converged=fit.converged,
        notes=(*_notes(value, at_start, ran_off=fit.ran_off), *left_out(oracle.groups, names), *planned(diagonal)),
    )


def _check(lam: float, draws: int) -> None:
    if not lam > 0:
        msg = f"lam={lam}, but lambda is a positive number, such as 0.5"
        raise ArgumentError(msg)
    if draws < 2:
        msg = f"draws={draws}, but a value with a standard error needs at least 2"
        raise ArgumentError(msg)


def _notes(value: float, at_start: float, *, ran_off: bool) -> tuple[str, ...]:
    notes = []
    if value > at_start:
        notes.append(
            f"on fresh draws the fitted scales do worse than those of (17), which give {at_start:.6g}: take more draws"
        )
    if ran_off:
        notes.append(
            "some noise grew to the end of its range, where the loss rises no more and the weights do not matter: take a "
            "larger lam"
        )
    return tuple(notes)
