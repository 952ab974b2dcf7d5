"""Worst-case sharpness, in a ball (Dinh et al. 2017) and in one relative to the parameters (Andriushchenko et al. 2023)."""

from __future__ import annotations

from math import inf

from invariant_sharpness.deprecation import renamed
from invariant_sharpness.estimators.conditional_gradient import LossIncrease, Norm, largest_increase
from invariant_sharpness.estimators.perturbations import Perturbations, require_positive
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Bracket, Estimate


@metric(
    symbol=r"S_{\max}",
    equation=r"\max_{\|\delta\|_2 \le r} \frac{L(\theta + \delta) - L(\theta)}{1 + L(\theta)}",
    summary="Largest loss increase in a ball around the parameters.",
    needs="losses and gradients near the parameters",
    cost="a few dozen gradients, at most 800",
    invariances={"output_shift"},
    pitfalls=(
        "The maximum is searched for, not proven. The value is the best of a few local maxima and can be too "
        "small; raise ``starts`` and see whether it grows. ``relative_gap`` says only that the ascent has "
        "ended. An ascent that ends at a kink of a ReLU network, where no gradient vanishes, is reported as "
        "not converged; the value is a lower bound all the same. The radius has the units of the parameters, "
        "so values of two networks, or of one network before and after a rescaling, are not comparable at the "
        "same radius. Hidden units in another order start from other random points, and may end at another "
        "maximum."
    ),
    reference="Dinh, Pascanu, Bengio and Bengio (2017); the denominator is that of Keskar et al. (2017)",
)
@renamed(steps="max_iterations")
def worst_case_sharpness(
    oracle: CurvatureOracle,
    *,
    radius: float = 0.05,
    starts: int = 4,
    max_iterations: int = 200,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Estimate:
    r"""Find the largest loss increase in a ball, relative to it: :math:`\max_{\|\delta\|_2 \le r} \dfrac{L(\theta + \delta) - L(\theta)}{1 + L(\theta)}`.

    The value is the best of several local maxima, and so a **lower bound** of the maximum. ``relative_gap`` is what
    first-order conditions leave open: :math:`\max_{\|u\| \le r} \langle \nabla L(\theta + \delta), u - \delta \rangle` over the increase, zero at a local maximum.

    Not invariant. Transformation law: for a network multiplied by D, the value is that of the original one over the
    ellipsoid :math:`\|D \delta\|_2 \le r`, which is the same ball in the coordinates ``Scaled(oracle, 1 / D)``. With
    :math:`\alpha = r / \|\theta_1\|`, a two-layer network without biases at :math:`(\alpha \theta_1, \theta_2 / \alpha)` has one with :math:`\theta_1 = 0` in its ball,
    which computes zero (Dinh et al.). To second order at a minimum it is :math:`\tfrac12 r^2 \lambda_{\max}(H) / (1 + L)`.
    On ``Scaled(oracle, s)`` with an equivariant scale it is invariant.

    Cost: at most ``max_iterations`` gradients and as many losses for each start; less if the ascents converge. Memory: four vectors.
    Source: Dinh, Pascanu, Bengio and Bengio (2017) for the ball; the denominator is that of Keskar et al. (2017).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    radius
        Euclidean length of the largest perturbation, in the units of the parameters; the default is a common radius of
        sharpness-aware minimization.
    starts
        Number of ascents: one from the parameters, all others from random points of the sphere.
    max_iterations
        Largest number of iterations of each ascent.
    tolerance
        An ascent has converged if ``relative_gap`` is at most this.
    seed
        Seed of the random points.

    Returns
    -------
    Estimate
        The best value that was found, with ``relative_gap``, and a bracket that is open above.

    Raises
    ------
    ArgumentError
        If the radius is not positive and finite, or there is no start or no iteration.
    LossError
        If the loss is not above -1.
    NonFiniteError
        If the loss is not finite in the ball.

    Examples
    --------
    At the minimum of a quadratic it is half the squared radius times the largest eigenvalue:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[0.0, 0.0]]))
    >>> round(ish.worst_case_sharpness(oracle, radius=0.1).value, 4)
    0.01
    """
    require_positive("radius", radius)
    around = Perturbations.equal(oracle, radius)
    increase = largest_increase(
        around, "l2", starts=starts, max_iterations=max_iterations, tolerance=tolerance, seed=seed
    )
    value = around.over_one_plus_loss(increase.value)
    return lower_bound("worst_case_sharpness", value, f"ascents from {starts} starts", increase, around)


@metric(
    symbol=r"S_{\max}^{\rho}",
    equation=r"\max_{\|\delta / |\theta|\|_p \le \rho} L(\theta + \delta) - L(\theta)",
    summary="Largest loss increase when each parameter changes by a fraction of itself.",
    needs="losses and gradients near the parameters",
    cost="a few dozen gradients, at most 800",
    invariances={"diagonal", "output_scale"},
    pitfalls=(
        "The search is that of ``worst_case_sharpness``, with the same limits: a lower bound, from random "
        "starts. A weight of exactly zero does not move. Implementations that divide the perturbation by the "
        "weights get 0/0 there, and a comparison with NaN is false: the projection onto the ball is then "
        "silently left out. Biases count in units of their own size, so a shift of the outputs moves it."
    ),
    reference="Kwon, Kim, Park and Choi (2021); Andriushchenko, Croce, Müller, Hein and Flammarion (2023)",
)
@renamed(steps="max_iterations")
def worst_case_adaptive_sharpness(
    oracle: CurvatureOracle,
    *,
    radius: float = 0.5,
    norm: Norm = "l2",
    starts: int = 4,
    max_iterations: int = 200,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Estimate:
    r"""Find the largest loss increase in a ball relative to the parameters, :math:`\max_{\|\delta / |\theta|\|_p \le \rho} L(\theta + \delta) - L(\theta)`.

    The maximum over the unit ball of v for :math:`\delta = \rho\, \theta \circ v`. Nothing is divided by a parameter: one that is exactly zero
    does not move, which is the limit of a small one. All parameters count, biases too, and all data at once: for the mean over
    batches of m examples, take the mean over the oracles of these batches.

    As :func:`worst_case_sharpness` a **lower bound**, with the same ``relative_gap``. The increase itself, not divided by :math:`1 + L`.
    To second order at a minimum it is :math:`\tfrac12 \rho^2 \lambda_{\max}(D H D)` for p = 2, with :math:`D = \operatorname{diag}(|\theta|)`.

    Invariant to every diagonal rescaling that leaves the function alone, iteration by iteration of the ascent; not to linear maps that mix
    parameters. A scale of the outputs counts unless the loss is normalized.
    Cost and memory: as :func:`worst_case_sharpness`.
    Source: Kwon, Kim, Park and Choi (2021), without their :math:`\eta`, which breaks the invariance; Andriushchenko et al. (2023).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    radius
        :math:`\rho`, a pure number. For ``"l2"`` the default is that of its authors' program for CIFAR-10; for
        ``"linf"`` it means that every parameter may change by that fraction of itself: take less, such as 0.01.
    norm
        ``"l2"`` or ``"linf"``: p of the ball.
    starts, max_iterations, tolerance, seed
        As in :func:`worst_case_sharpness`.

    Returns
    -------
    Estimate
        The best value that was found, with ``relative_gap``, and a bracket that is open above.

    Raises
    ------
    ArgumentError
        If the radius is not positive and finite, the norm is not known, or there is no start or no iteration.
    NonFiniteError
        If the loss is not finite in the ball.

    Examples
    --------
    The loss is half of the squared parameter. From 2 to 3, half as much again, it rises from 2 to 4.5:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.eye(1), np.array([[2.0]]))
    >>> round(ish.worst_case_adaptive_sharpness(oracle, radius=0.5).value, 9)
    2.5
    """
    require_positive("radius", radius)
    around = Perturbations.relative(oracle, radius)
    increase = largest_increase(
        around, norm, starts=starts, max_iterations=max_iterations, tolerance=tolerance, seed=seed
    )
    return lower_bound(
        "worst_case_adaptive_sharpness", increase.value, f"{norm}, ascents from {starts} starts", increase, around
    )


def lower_bound(name: str, value: float, method: str, increase: LossIncrease, around: Perturbations) -> Estimate:
    """Make the estimate of a maximum of which it is only known that it is not below the value."""
    return Estimate(
        name=name,
        value=value,
        method=method,
        certificate=increase.relative_gap,
        converged=increase.converged,
        notes=around.notes(increase.value),
        bracket=Bracket(value, inf),
    )
