r"""Minimization over :math:`x = \ln A`, with the best B at each point: a convex function.

A sweep takes the best A for the present B, in closed form. Where sweeps are slow, Newton's method takes over, which also says how far below a
point the infimum can lie. In the frame in which the best B is the identity write :math:`\Gamma_{ia}` for the curvature and the penalty of row i
together, s for the diagonal of :math:`M = N`, and :math:`g_i = \sum_a \operatorname{tr} \Gamma_{ia}`. The second derivative of the objective
in x is

.. math:: Q_{ij} = \delta_{ij}\, g_i - \sum_{akl} \frac{\Gamma_{iakl} \Gamma_{jakl}}{s_{ak} + s_{al}} .

With the gradient r and the Newton decrement :math:`\nu^2 = r^T Q^+ r`,

.. math::
    S(x) - S^* \le \frac{\nu^2}{2 (1 - \kappa \nu)} , \qquad \kappa^2 = \frac{2}{\mu \min_i g_i} + \frac{1}{2 \min_{ak} s_{ak}} ,

where :math:`\mu` is the least eigenvalue of :math:`g_i^{-1/2} Q_{ij}\, g_j^{-1/2}` but for the zero that belongs to a common shift of all x. The
proof is in the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from invariant_sharpness.parameters.matrices import HostArray
from invariant_sharpness.solvers.heads.objective import Part, Point, point

_ROUNDING = 2.0**-50
_MAX_SWEEPS, _MAX_STEPS, _MAX_HALVINGS = 40, 100, 40
_LONGEST_MOVE = 2.0
_LEAST_DECREASE = 4e-16


@dataclass(frozen=True, slots=True)
class Minimum:
    """The objective of a part at its best point, how far below it the infimum can lie, and how many steps it took."""

    value: float
    loss: float
    steps: int


def minimize(part: Part, tolerance: float) -> Minimum:
    """Sweep as long as that is fast, and then take Newton steps, until the relative gap is at most ``tolerance``."""
    at, steps = _alternate(part, tolerance)
    while True:
        step, loss = newton_step(part, at)
        lower = _lower(part, at, step) if loss > tolerance * at.value and steps < _MAX_STEPS else None
        if lower is None:
            return Minimum(at.value, loss, steps)
        at, steps = lower, steps + 1


def _alternate(part: Part, tolerance: float) -> tuple[Point, int]:
    at, previous = point(part, np.zeros(len(part.weights[0]))), np.inf
    for sweep in range(_MAX_SWEEPS):
        if at.expected <= tolerance / 4 or (at.expected > 0.5 * previous and sweep > 4):
            return at, sweep  # a linear rate this slow is left to Newton
        previous = at.expected
        at = point(part, at.x + 0.5 * np.log(at.penalty / at.curvature))
    return at, _MAX_SWEEPS


def _lower(part: Part, at: Point, step: HostArray) -> Point | None:
    """Return the point at the end of the step, halved until the objective falls enough; None if it does not."""
    slope = float(at.gradient @ step)
    length = min(1.0, _LONGEST_MOVE / max(float(np.abs(step).max()), 1e-300))
    for _ in range(_MAX_HALVINGS):
        reached = point(part, at.x + length * step)
        if reached.value <= at.value + 1e-4 * length * slope + _LEAST_DECREASE * at.value:
            return reached
        length /= 2
    return None


class NewtonStep(NamedTuple):
    """The step in x, and how far below the point the infimum can lie: no more than the value itself."""

    step: HostArray
    loss: float


def newton_step(part: Part, at: Point) -> NewtonStep:
    """Compute the Newton step and the bound. Cost: two products of matrices for each row of each head, and the eigenvalues of a matrix over rows."""
    # Eigendecomposition of the second derivative, scaled by g.
    scale = np.sqrt(at.curvature + at.penalty)
    values, vectors = np.linalg.eigh(_scaled_second_derivative(part, at, scale))
    values = np.maximum(values, _ROUNDING)
    # Newton decrement, from the gradient in the eigenbasis.
    coordinates = vectors.T @ (at.gradient / scale)
    decrement = float(np.sqrt(np.sum(coordinates**2 / values)))
    # kappa times nu, and the bound where it is below one.
    least_size = min(float(s.min(initial=np.inf)) for s in at.sizes)
    reach = decrement * np.sqrt(2 / (values[0] * scale.min() ** 2) + 1 / (2 * least_size))
    is_known = values[0] > len(values) * _ROUNDING and reach < 1
    loss = decrement**2 / (2 * (1 - reach)) if is_known else at.value
    return NewtonStep(-(vectors @ (coordinates / values)) / scale, float(loss))


def _scaled_second_derivative(part: Part, at: Point, scale: HostArray) -> HostArray:
    """Compute the second derivative with a unit diagonal; its null vector, a common shift, gets the eigenvalue 1 instead."""
    pairs = []
    for gamma, s in zip(_costs(part, at), at.sizes, strict=True):
        pairs.append((gamma / np.sqrt(s[:, None] + s)).reshape(len(scale), -1) / scale[:, None])
    factors = np.concatenate(pairs, axis=1)
    shift = scale / np.linalg.norm(scale)
    return np.asarray(np.eye(len(scale)) - factors @ factors.T + np.outer(shift, shift))


def _costs(part: Part, at: Point) -> list[HostArray]:
    r"""Compute the matrices :math:`\Gamma_{ia}`, for each head."""
    A = np.exp(at.x)[:, None, None]
    return [
        A * (frame.T @ H @ frame) + w[:, :, None] * w[:, None, :]
        for H, frame, w in zip(part.curvatures, at.frames, at.weights, strict=True)
    ]
