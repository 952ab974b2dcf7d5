"""The first step along a direction at which a loss is higher than at its start, by an exponential search and a bisection."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isfinite
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import brentq

Ending = Literal["found", "never rises", "rises at once"]

_MOST_DOUBLINGS = 60
"""From the first step a search reaches 18 orders of magnitude in both directions."""

_FINEST = 4 * float(np.finfo(np.float64).eps)
_SHORTEST = float(np.finfo(np.float64).tiny)


class CriticalStep(NamedTuple):
    """Where the loss is higher for the first time; or the longest (shortest) step at which it was not (was).

    The number of losses counts what the search took, without that at the start.
    """

    step: float
    ending: Ending
    losses: int


def critical_step(increase: Callable[[float], float], first: float, rounding: float, tolerance: float) -> CriticalStep:
    r"""Search :math:`\eta_c = \min \{\eta > 0 : \Delta(\eta) > 0\}` of the increase :math:`\Delta` of a loss.

    Steps are doubled while the loss falls (halved while it rises), until one of two in a row rises. Between them the zero of
    :math:`\Delta(\eta) / \eta` is bisected, or met by a secant where that is closer (Brent 1973); of a quadratic loss it is a straight line.

    Parameters
    ----------
    increase
        The increase of the loss after a step; infinite where it is not defined.
    first
        The step to begin with.
    rounding
        An increase of this magnitude is not told from none.
    tolerance
        Relative error of the step.
    """
    search = _Search(increase)
    step = first
    while abs(search.increase(step)) <= rounding:
        if search.losses > _MOST_DOUBLINGS:
            return CriticalStep(step, "never rises", search.losses)
        step *= 2
    factor = 0.5 if search.increase(step) > 0 else 2.0
    for _ in range(_MOST_DOUBLINGS):
        other = step * factor
        if factor < 1 and abs(search.increase(other)) <= rounding:
            return CriticalStep(step, "rises at once", search.losses)
        if (search.increase(other) > 0) != (search.increase(step) > 0):
            return CriticalStep(_zero(search, min(step, other), max(step, other), tolerance), "found", search.losses)
        step = other
    return CriticalStep(step, "rises at once" if factor < 1 else "never rises", search.losses)


class _Search:
    """Increases that were asked for, each computed once."""

    def __init__(self, increase: Callable[[float], float]) -> None:
        self._increase = increase
        self._known: dict[float, float] = {}

    @property
    def losses(self) -> int:
        return len(self._known)

    def increase(self, step: float) -> float:
        if step not in self._known:
            self._known[step] = self._increase(step)
        return self._known[step]


def _zero(search: _Search, lower: float, upper: float, tolerance: float) -> float:
    """Return the zero between a step after which the loss is lower and one after which it is higher, or not defined."""
    while not isfinite(search.increase(upper)) and upper > lower * (1 + tolerance):
        middle = (lower + upper) / 2
        lower, upper = (lower, middle) if search.increase(middle) > 0 else (middle, upper)
    if search.increase(upper) == inf:
        return upper
    # The error is relative alone: steps are as short as the loss is steep.
    return float(
        brentq(lambda step: search.increase(step) / step, lower, upper, xtol=_SHORTEST, rtol=max(tolerance, _FINEST))
    )
