r"""Central differences that know how far they can be trusted.

A step that is too long crosses kinks and sees higher derivatives, one that is too short sees rounding. Both
show in the same place: the forward and the backward difference no longer agree. Half of what they differ by,
:math:`|f(t) - 2 f(0) + f(-t)| / 2t`, is the uncertainty of the central one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from invariant_sharpness.parameters.vector import ParameterVector

_FOR_ROUNDING, _BELIEVED = 2, 5
_FACTOR = 4.0
"""Steps whose uncertainty is up to this many times the least are believed."""

_HOPELESS = 0.1
"""Differences that are this uncertain say nothing."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a derivative fits to differences, both relative to the larger of the two.

    Parameters
    ----------
    error
        At the step that fits best, among those that can be believed.
    uncertainty
        Of the difference with this step.
    """

    error: float
    uncertainty: float

    @property
    def judged(self) -> bool:
        """Whether the differences are certain enough to say anything."""
        return self.uncertainty < _HOPELESS

    def fits(self, tolerance: float) -> bool:
        """Whether the error is within the tolerance and three times the uncertainty, or cannot be judged."""
        return not self.judged or self.error <= tolerance + 3 * self.uncertainty


def agreement_by_group(
    function: Callable[[float], ParameterVector], derivative: ParameterVector, precision: float, floor: float = 0.0
) -> dict[str, Agreement]:
    """Compare the derivative of ``function`` at zero with its differences, group by group, at several steps.

    Steps go from ``precision ** (1/6)`` to ``precision ** (1/2)``; two shorter ones show the rounding.
    Values are taken to be uncertain by ``precision * floor`` at least. Cost: fifteen evaluations.
    """
    centre = function(0.0)
    rounding = precision * (centre.norm() + floor)
    noise = dict.fromkeys(derivative.arrays, rounding)
    believed: dict[str, list[Agreement]] = {name: [] for name in derivative.arrays}
    for number, step in enumerate(_steps(precision)):
        ahead, behind = function(step), function(-step)
        slope, bend = (ahead - behind) / (2 * step), (ahead - centre) - (centre - behind)
        # Rounding does not get smaller with the step: what a shorter one saw, this one has too.
        noise = {name: max(least, _norm(bend, name)) for name, least in noise.items()}
        if number >= _FOR_ROUNDING:
            for name, seen in noise.items():
                doubt = seen / (2 * step) + rounding / step + 10 * precision * derivative.norm()
                believed[name].append(_agreement(slope, derivative, name, doubt))
    return {name: _best(steps) for name, steps in believed.items()}


def _steps(precision: float) -> list[float]:
    """From the shortest to the longest."""
    return [float(precision**exponent) for exponent in np.linspace(2 / 3, 1 / 6, _FOR_ROUNDING + _BELIEVED)]


def _agreement(slope: ParameterVector, derivative: ParameterVector, name: str, doubt: float) -> Agreement:
    size = max(_norm(derivative, name), _norm(slope, name))
    return Agreement(_norm(slope - derivative, name) / size, doubt / size) if size > 0 else Agreement(0.0, 0.0)


def _best(steps: list[Agreement]) -> Agreement:
    least = min(step.uncertainty for step in steps)
    return min((step for step in steps if step.uncertainty <= _FACTOR * least), key=lambda step: step.error)


def _norm(vector: ParameterVector, name: str) -> float:
    return float(vector.xp.sum(vector[name] * vector[name])) ** 0.5
