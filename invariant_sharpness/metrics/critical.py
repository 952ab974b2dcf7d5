"""Critical sharpness: the curvature along an update, from losses alone (Kalra et al. 2026)."""

from __future__ import annotations

from math import inf

from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.estimators.critical_step import CriticalStep, critical_step
from invariant_sharpness.estimators.perturbations import require_positive
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.parameters.fitting import require_fitting
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.results.estimate import Bracket, Estimate

_FIRST = 1e-3
"""The first step moves the parameters by this fraction of their length."""


@metric(
    symbol=r"\lambda_c",
    equation=r"\frac{2}{\eta_c}, \qquad \eta_c = \min \bigl( \eta > 0 : L(\theta - \eta D) > L(\theta) \bigr)",
    summary="Curvature along an update, from the first step after which the loss is higher.",
    needs="losses near the parameters, and one gradient",
    cost="one gradient and about 15 losses, 6 gradients; losses alone for a direction of one's own",
    invariances={"permutation", "output_shift"},
    pitfalls=(
        "It is a curvature only where the loss is nearly quadratic up to the critical step, which is long near a minimum of low "
        "curvature. Along another direction it is another number: the gradient is that of gradient descent, and "
        "the update of Adam gives the sharpness that Adam sees. Others call the step itself, or the largest eigenvalue, by the same name. "
        "Steps are doubled, so that a rise that is over within a doubling is not seen."
    ),
    reference="Kalra et al. (2026)",
)
def critical_sharpness(
    oracle: CurvatureOracle,
    *,
    direction: ParameterVector | CurvatureOracle | None = None,
    first_step: float | None = None,
    tolerance: float = 1e-6,
) -> Estimate:
    r"""Measure the curvature along an update by the first step after which the loss is higher than before.

    .. math:: \lambda_c = \frac{2}{\eta_c}, \qquad \eta_c = \min \{\eta > 0 : L(\theta - \eta D) > L(\theta)\}

    With the gradient for D, :math:`\eta_c` is the largest learning rate at which gradient descent lowers the loss. A quadratic loss has
    :math:`\lambda_c = D^T H D / D^T g` exactly, at most the largest eigenvalue for :math:`D = g`; other losses near a minimum. The steps are doubled
    until the loss is higher, and then bisected.

    With another oracle for D it is the *relative* form :math:`\lambda_c^{1 \to 2}`: the curvature of this loss along the gradient of that one, such as
    the held-out loss along the update of the training loss.

    Where the loss is not higher after any step, :math:`\eta_c` is infinite: the value is zero, ``converged`` false and a note says *not found*.
    Where it is higher after every step, as uphill or where what it falls by is rounding, the value is a lower bound.

    Not invariant: D is made of the gradient, which is no vector of parameters. On ``Scaled(oracle, s)`` with an equivariant scale it is.
    Cost: one gradient, unless D is given, and about 15 losses. It takes no second derivative, so that all that has a loss can be measured.
    Memory: two vectors.
    Source: Kalra et al. (2026), arXiv:2601.16979.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    direction
        D, where the update is :math:`-\eta D`: a vector of the oracle's parameters, or the oracle of another loss of the same network,
        whose gradient is taken. Default: the gradient.
    first_step
        :math:`\eta` to begin with, such as the learning rate. Default: a thousandth of the length of the parameters.
    tolerance
        Relative error of :math:`\eta_c`.

    Returns
    -------
    Estimate
        The value, with the tolerance as ``relative_gap``; or a bracket with one side, where nothing was found.

    Raises
    ------
    ArgumentError
        If ``first_step`` is not positive and finite, or the direction belongs to another network.

    Examples
    --------
    At (1, 1) the loss :math:`(x^2 + 3 y^2) / 2` has the gradient (1, 3), and along it the curvature (1 + 27) / (1 + 9):

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 3.0]), np.array([[1.0, 1.0]]))
    >>> round(ish.critical_sharpness(oracle).value, 6)
    2.8
    """
    along = _direction(oracle, direction)
    length = along.norm()
    if length == 0:
        note = "not found: the direction is zero, as the gradient is at a minimum"
        return Estimate("critical_sharpness", 0.0, "no step", converged=False, notes=(note,))
    if first_step is None:
        first_step = _FIRST * (oracle.parameters.norm() or 1.0) / length
    require_positive("first_step", first_step)
    start = oracle.loss(oracle.parameters)
    found = critical_step(
        lambda step: _loss_after(oracle, along, step) - start,
        first_step,
        machine_epsilon(oracle) * abs(start),
        tolerance,
    )
    return _estimate(found, tolerance)


def _direction(oracle: CurvatureOracle, direction: ParameterVector | CurvatureOracle | None) -> ParameterVector:
    if isinstance(direction, ParameterVector):
        return require_fitting(direction, oracle.groups, "the directions")
    other = oracle if direction is None else direction
    point = oracle.parameters
    return require_fitting(other.gradient(point), oracle.groups, "the gradients of the other loss")


def _loss_after(oracle: CurvatureOracle, along: ParameterVector, step: float) -> float:
    """Return the loss after a step; infinite where it is not finite."""
    try:
        loss = oracle.loss(oracle.parameters - step * along)
    except NonFiniteError:
        return inf
    return loss if loss < inf else inf


def _estimate(found: CriticalStep, tolerance: float) -> Estimate:
    value, method = 2 / found.step, f"{found.losses + 1} losses"
    if found.ending == "found":
        return Estimate("critical_sharpness", value, method, certificate=tolerance)
    if found.ending == "never rises":
        note = f"not found: the loss is not higher after any step up to {found.step:.3g}"
        bracket, value = Bracket(0.0, value), 0.0
    else:
        note = (
            f"not found: the loss is higher after every step down to {found.step:.3g}, below which it is rounding; the update is "
            f"-step * direction, so a direction that descends has a positive product with the gradient"
        )
        bracket = Bracket(value, inf)
    return Estimate("critical_sharpness", value, method, converged=False, notes=(note,), bracket=bracket)
