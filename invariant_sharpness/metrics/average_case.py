"""Mean loss increase under noise: equal for all parameters, or relative to each."""

from __future__ import annotations

from dataclasses import replace

from invariant_sharpness.estimators.hutchinson import mean_estimate
from invariant_sharpness.estimators.perturbations import Noise, Perturbations, increase_samples, require_positive
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.prng import require_probes
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate


@metric(
    symbol=r"S_{\mathrm{mean}}",
    equation=r"E_{u \sim N(0, \sigma^2 I)}[L(\theta + u)] - L(\theta)",
    summary="Mean loss increase under noise that is equal for all parameters.",
    needs="losses near the parameters",
    cost="two losses per probe, in all about 43 gradients",
    invariances={"output_shift"},
    pitfalls=(
        "It is dominated by the parameters with the largest curvature, in their own units. It can be negative "
        "away from a minimum. In single precision the increase for a small ``scale`` drowns in the rounding of "
        "the loss; a note says so. The draws are pairs of opposite signs. At equal cost the variance of "
        "independent draws is larger by a factor of 111, 1.6 and 0.6 for noise of 0.001, 0.01 and 0.1 in a "
        "trained network on digits, and of 5900, 1070 and 27 in a random one, where the gradient is large."
    ),
    reference="Neyshabur, Bhojanapalli, McAllester and Srebro (2017)",
    up_to_error={"permutation"},
)
def expected_sharpness(oracle: CurvatureOracle, *, scale: float = 0.01, probes: int = 64, seed: int = 0) -> Estimate:
    r"""Average the loss increase under Gaussian noise, :math:`E_{u \sim N(0, \sigma^2 I)}[L(\theta + u)] - L(\theta)`.

    The mean over pairs u and -u, which cancel the gradient's term, with its standard error. To second order it is
    :math:`\tfrac12 \sigma^2 \operatorname{tr} H`; the factor one half is missing in (5) of Tsuzuku et al. (2019).

    Not invariant. Transformation law: for a network multiplied by D it is the mean under the noise :math:`D^{-1} u` in the original one,
    to second order :math:`\tfrac12 \sigma^2 \sum_i h_i / d_i^2`. On ``Scaled(oracle, s)`` with an equivariant scale it is invariant draw by draw.

    Cost: two losses for each probe, about two thirds of a gradient. Memory: three vectors.
    Source: Neyshabur, Bhojanapalli, McAllester and Srebro (2017).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    scale
        :math:`\sigma`, the standard deviation of the noise, in the units of the parameters.
    probes
        Number of pairs of noise vectors.
    seed
        Seed of the noise.

    Returns
    -------
    Estimate
        The mean of the draws, with its standard error.

    Raises
    ------
    ArgumentError
        If the scale is not positive and finite, or ``probes`` is less than 2.
    NonFiniteError
        If the loss is not finite at a perturbed point.

    Examples
    --------
    For a quadratic loss it is half the squared scale times the trace, here 3:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> estimate = ish.expected_sharpness(oracle, scale=0.01)
    >>> abs(estimate.value - 1.5e-4) < 3 * estimate.standard_error
    True
    """
    require_positive("scale", scale)
    return _mean_increase("expected_sharpness", Perturbations.equal(oracle, scale), "normal", probes, seed)


@metric(
    symbol=r"S_{\mathrm{mean}}^{\rho}",
    equation=r"E_{\delta \sim N(0, \rho^2 \operatorname{diag}(\theta^2))}[L(\theta + \delta)] - L(\theta)",
    summary="Mean loss increase under noise that is a fraction of each parameter.",
    needs="losses near the parameters",
    cost="two losses per probe, in all about 43 gradients",
    invariances={"diagonal", "output_scale"},
    pitfalls=(
        "The authors observe that adaptive sharpness does not correlate well with generalization, but rather "
        "with training parameters such as the learning rate; in several of their settings it correlates "
        "negatively with the error out of distribution. Biases count in units of their own size, so a shift "
        "of the outputs moves it."
    ),
    reference="Andriushchenko, Croce, Müller, Hein and Flammarion (2023)",
    up_to_error={"permutation"},
)
def average_adaptive_sharpness(
    oracle: CurvatureOracle, *, scale: float = 0.1, noise: Noise = "normal", probes: int = 64, seed: int = 0
) -> Estimate:
    r"""Average the loss increase under noise relative to the parameters, :math:`E_{\delta \sim N(0, \rho^2 \operatorname{diag}(\theta^2))}[L(\theta + \delta)] - L(\theta)`.

    As :func:`expected_sharpness` with the noise :math:`\rho\, \theta \circ \epsilon`, for standard normal :math:`\epsilon`. A parameter that is exactly zero does not move. All
    parameters count, biases too. To second order it is :math:`\tfrac12 \rho^2 \sum_i \theta_i^2 h_i`; a third of that for uniform
    noise :math:`\rho\, \theta \circ U(-1, 1)`, which belongs to the box of :func:`worst_case_adaptive_sharpness` as Gaussian noise does to its ball.

    Invariant, draw by draw, to every diagonal rescaling that leaves the function alone, of either sign; not to linear maps that mix
    parameters. A scale of the outputs counts unless the loss is normalized.
    Cost and memory: as :func:`expected_sharpness`.
    Source: Andriushchenko, Croce, Müller, Hein and Flammarion (2023).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    scale
        :math:`\rho`, the standard deviation of the noise as a fraction of the parameter; of uniform noise, the largest.
    noise
        ``"normal"`` or ``"uniform"``.
    probes
        Number of pairs of noise vectors.
    seed
        Seed of the noise.

    Returns
    -------
    Estimate
        The mean of the draws, with its standard error.

    Raises
    ------
    ArgumentError
        If the scale is not positive and finite, the noise is not known, or ``probes`` is less than 2.
    NonFiniteError
        If the loss is not finite at a perturbed point.

    Examples
    --------
    For a quadratic loss it is half the squared scale times the curvature in units of the parameters, here 9 + 2 * 16:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> estimate = ish.average_adaptive_sharpness(oracle, scale=0.1)
    >>> abs(estimate.value - 0.205) < 3 * estimate.standard_error
    True
    """
    require_positive("scale", scale)
    return _mean_increase("average_adaptive_sharpness", Perturbations.relative(oracle, scale), noise, probes, seed)


def _mean_increase(name: str, around: Perturbations, noise: Noise, probes: int, seed: int) -> Estimate:
    require_probes(probes, 2)
    estimate = mean_estimate(name, increase_samples(around, noise, probes, seed), f"{probes} pairs of {noise} probes")
    return replace(estimate, notes=around.notes(estimate.value))
