r"""The largest increase of the loss in a ball, by conditional gradient ascent from several starts.

A step looks for the point u of the ball that is furthest along the gradient g and goes towards it,

.. math:: v \leftarrow v + t\,(u - v), \qquad u = \operatorname{argmax}_{\|u\| \le 1} \langle g(v), u \rangle ,

with the first :math:`t = 1, \tfrac12, \tfrac14, \dots` that gains enough (Frank and Wolfe 1956; Armijo 1966). No step leaves the ball, and none has
a size to be tuned. Full steps are the power method if the loss is quadratic, and never go down if it is convex (Journée et al. 2010).

What stops it is the gap :math:`\langle g, u - v \rangle`: by how much the linearized loss is larger elsewhere in the ball. It is zero at
local maxima and other stationary points, and nowhere else. It does not prove that a maximum is the largest one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.perturbations import Perturbations
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.runtime.folder import Snapshot
from invariant_sharpness.runtime.loop import Loop, iterate
from invariant_sharpness.runtime.progress import track

Norm = Literal["l2", "linf"]
"""Euclidean norm, or largest magnitude of an entry."""

_SUFFICIENT = 1e-4
"""Fraction of what the linearized loss promises that a step has to gain."""

_HALVINGS = 20

_GRADIENTS_PER_STEP = 4 / 3
"""A step takes a gradient and, mostly, one loss, which is about a third of a gradient."""


class LossIncrease(NamedTuple):
    """The largest increase that was found, which the true one is not below, and the gap where it was found."""

    value: float
    gap: float
    converged: bool

    @property
    def relative_gap(self) -> float:
        """The gap over the value; zero if there is no increase."""
        return self.gap / self.value if self.value > 0 else 0.0


def largest_increase(
    around: Perturbations, norm: Norm, *, starts: int, max_iterations: int, tolerance: float, seed: int
) -> LossIncrease:
    """Return the best of the ascents from the centre of the unit ball and from random points of its boundary.

    The ascent from the centre never goes below it, so that the value is never negative. It has converged if its gap is at
    most ``tolerance`` times the value, or within rounding.

    Cost: at most ``max_iterations`` gradients and about as many losses for each start. Memory: four vectors.

    Raises
    ------
    ArgumentError
        If the norm is not known, or there is no start or no step.
    NonFiniteError
        If the loss is not finite in the ball.
    """
    if norm not in _FURTHEST:
        msg = f'norm={norm!r} is not known: take "l2" or "linf"'
        raise ArgumentError(msg)
    if starts < 1 or max_iterations < 1:
        msg = f"starts={starts} and max_iterations={max_iterations}, but an ascent needs at least one of each"
        raise ArgumentError(msg)
    goal = _Goal(around, norm, max_iterations, tolerance, seed)
    ascents = track(range(starts), "starts of an ascent", starts, gradients=max_iterations * _GRADIENTS_PER_STEP)
    return max((_ascent(goal, number) for number in ascents), key=lambda increase: increase.value)


class _Goal(NamedTuple):
    """A loss around its parameters, the ball to search, and when to stop."""

    around: Perturbations
    norm: Norm
    max_iterations: int
    tolerance: float
    seed: int


@dataclass(frozen=True, slots=True)
class _Ascent:
    """Where an ascent is after some steps, of which going to its start is the first. It has ended where it is at no point."""

    done: int
    point: ParameterVector | None
    increase: LossIncrease

    def save(self) -> Snapshot:
        numbers = np.array([float(self.done), *self.increase])
        return Snapshot({"numbers": numbers}, {} if self.point is None else {str(self.done): self.point})

    def restored(self, saved: Snapshot) -> _Ascent:
        done, value, gap, converged = saved.arrays["numbers"].tolist()
        return _Ascent(int(done), next(iter(saved.vectors.values()), None), LossIncrease(value, gap, bool(converged)))


def _ascent(goal: _Goal, number: int) -> LossIncrease:
    """Return the end of the ascent from the start of this number."""
    around = goal.around
    settings = (around.scale, goal.norm, goal.tolerance, goal.seed, number)
    loop = Loop(
        "ascending", around.oracle, settings, total=1 + goal.max_iterations, gradients=_GRADIENTS_PER_STEP, order=1
    )
    nowhere = _Ascent(0, None, LossIncrease(0.0, 0.0, converged=False))
    return iterate(
        lambda ascent: _step(goal, ascent) if ascent.done else _start(around, goal.norm, number, goal.seed),
        nowhere,
        loop,
    ).increase


def _start(around: Perturbations, norm: Norm, number: int, seed: int) -> _Ascent:
    """Go to the centre for start 0, and to random points of the boundary for others."""
    point = _FURTHEST[norm](random.signs(around.oracle, seed, number - 1)) if number else around.scale.only(())
    return _Ascent(1, point, LossIncrease(around.increase(point), 0.0, converged=False))


def _step(goal: _Goal, ascent: _Ascent) -> _Ascent | None:
    """Go to the next point; to none if this is a stationary one, or no step gains enough."""
    around, point, value, done = goal.around, ascent.point, ascent.increase.value, ascent.done + 1
    if point is None:
        return None
    gradient = around.slope(point)
    direction = _FURTHEST[goal.norm](gradient) - point
    gap = gradient.dot(direction)
    if gap <= goal.tolerance * abs(value) + around.rounding:
        return _Ascent(done, None, LossIncrease(value, gap, converged=True))
    found = _higher_point(around, point, direction, value, gap)
    if found is None:
        return _Ascent(done, None, LossIncrease(value, gap, converged=False))
    return _Ascent(done, found[0], LossIncrease(found[1], gap, converged=False))


def _higher_point(
    around: Perturbations, point: ParameterVector, direction: ParameterVector, value: float, gap: float
) -> tuple[ParameterVector, float] | None:
    """Return the first point on the way back from the end where the loss is high enough, and its increase there."""
    for halving in range(_HALVINGS):
        step = 0.5**halving
        candidate = point + direction * step
        increase = around.increase(candidate)
        if increase >= value + _SUFFICIENT * step * gap:
            return candidate, increase
    return None


def _furthest_in_ball(gradient: ParameterVector) -> ParameterVector:
    length = gradient.norm()
    return gradient / length if length > 0 else gradient


def _furthest_in_box(gradient: ParameterVector) -> ParameterVector:
    return gradient.map(gradient.xp.sign)


_FURTHEST: Mapping[Norm, Callable[[ParameterVector], ParameterVector]] = MappingProxyType(
    {"l2": _furthest_in_ball, "linf": _furthest_in_box}
)
"""The point of the unit ball that is furthest along a direction; zero for the zero vector."""
