r"""Minimization over :math:`x = \ln A`, with the best B at each point: a convex function.

A sweep takes the best A for the present B, in closed form. Where sweeps are slow, Newton's method takes over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from invariant_sharpness.coordinates.blocks import HostArray
from invariant_sharpness.coordinates.head_solver.newton import newton_step
from invariant_sharpness.coordinates.head_solver.parts import Part
from invariant_sharpness.coordinates.head_solver.point import Point, point

_MOST_SWEEPS, _MOST_STEPS, _MOST_HALVINGS = 40, 100, 40
_LONGEST_MOVE = 2.0
_ROUNDING = 4e-16


@dataclass(frozen=True, slots=True)
class Minimum:
    """The objective of a part at its best point, how far below it the infimum can lie, and how many steps it took."""

    value: float
    loss: float
    steps: int


def minimize(part: Part, tolerance: float) -> Minimum:
    """Sweeps, as long as they are fast, and then Newton steps, until the certified relative gap is at most ``tolerance``."""
    at, steps = _alternate(part, tolerance)
    while True:
        step, loss = newton_step(part, at)
        lower = _lower(part, at, step) if loss > tolerance * at.value and steps < _MOST_STEPS else None
        if lower is None:
            return Minimum(at.value, loss, steps)
        at, steps = lower, steps + 1


def _alternate(part: Part, tolerance: float) -> tuple[Point, int]:
    at, previous = point(part, np.zeros(len(part.weights[0]))), np.inf
    for sweep in range(_MOST_SWEEPS):
        if at.expected <= tolerance / 4 or (at.expected > 0.5 * previous and sweep > 4):
            return at, sweep  # a linear rate this slow is left to Newton
        previous = at.expected
        at = point(part, at.x + 0.5 * np.log(at.penalty / at.curvature))
    return at, _MOST_SWEEPS


def _lower(part: Part, at: Point, step: HostArray) -> Point | None:
    """The point at the end of the step, halved until the objective falls enough; None if it does not."""
    slope = float(at.gradient @ step)
    length = min(1.0, _LONGEST_MOVE / max(float(np.abs(step).max()), 1e-300))
    for _ in range(_MOST_HALVINGS):
        reached = point(part, at.x + length * step)
        if reached.value <= at.value + 1e-4 * length * slope + _ROUNDING * at.value:
            return reached
        length /= 2
    return None
