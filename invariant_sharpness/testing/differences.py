r"""How far two numbers may be apart that are the same on paper: tolerances, and differences that know their error.

A central difference with too long a step crosses kinks and sees higher derivatives, one with too short a step sees
rounding. Both show in the same place: the forward and the backward difference no longer agree. Half of what they differ
by, :math:`|f(t) - 2 f(0) + f(-t)| / 2t`, is the uncertainty of the central one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, HostArrays, machine_epsilon
from invariant_sharpness.testing.points import Entry, chosen_entries

NATURAL_SIZE = 1.0
"""Losses and outputs are made of activations of about this size: a small one has lost digits that are not seen in it."""

_MOST_HIDDEN = 0.05
"""In half precision a thousand roundings would be more than the whole."""

_FOR_ROUNDING, _BELIEVED = 3, 5
_FACTOR = 4.0
"""Steps whose uncertainty is up to this many times the least are believed."""

_KINKED = 3.0
"""Second differences that are so many times what rounding and curvature explain are of kinks."""

_REPEATS = 4

_HOPELESS = 0.1
"""Differences that are this uncertain say nothing."""


def tolerance_of_differences(eps: float) -> float:
    """Return what central differences can reach: 6e-6 in double precision, 5e-3 in single precision, 0.2 in bfloat16."""
    return float(eps ** (1 / 3))


def tolerance_of_rounding(eps: float) -> float:
    """Return how far two ways through one network may differ: 5e-7 in double, 2e-3 in single precision, 0.14 in bfloat16."""
    return float(eps**0.4)


def standard_errors_off(draws: npt.NDArray[np.float64], known: float, rounding: float) -> float:
    """Return how far the mean of independent draws is from a known value, in its standard error and the rounding together."""
    uncertainty = float(draws.std(ddof=1)) / len(draws) ** 0.5 + rounding
    return abs(float(draws.mean()) - known) / uncertainty if uncertainty > 0 else 0.0


def relative_error(difference: float, size: float, whole: float, eps: float) -> float:
    """Divide a difference by the size of what is compared, but by no less than rounding in the whole can hide.

    Rounding somewhere in a network reaches every part of a vector, also one that is tiny or zero.
    """
    hidden = min(1e3 * eps, _MOST_HIDDEN) / tolerance_of_rounding(eps)
    return difference / (size + hidden * whole) if difference > 0 else 0.0


class ComparedEntry(NamedTuple):
    """One entry of a vector, computed in two ways: its place, both values, and their relative error."""

    entry: Entry
    known: float
    found: float
    error: float


def compared_entries(
    oracle: CurvatureOracle, known: HostArrays, find: Callable[[Entry], float], seed: int
) -> Iterator[ComparedEntry]:
    """Compare second derivatives, or squares of first ones, with what ``find`` says: two entries of up to six groups."""
    sizes, eps = oracle.to_numpy(magnitudes(oracle)), machine_epsilon(oracle)
    # In scaled coordinates an entry counts by the square of its parameter's size.
    relevant = {name: values * sizes[name] ** 2 for name, values in known.items()}
    whole = max(float(np.max(np.abs(values), initial=0.0)) for values in relevant.values())
    for name, index in chosen_entries(relevant, seed):
        first, second = float(known[name][index]), find((name, index))
        error = relative_error(abs(first - second), max(abs(first), abs(second)), whole / sizes[name][index] ** 2, eps)
        yield ComparedEntry((name, index), first, second, error)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a derivative fits to differences, both relative to the larger of the two.

    Parameters
    ----------
    error
        The relative difference at the step that fits best, among those that can be believed.
    uncertainty
        The relative uncertainty of the difference with this step.
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
    function: Callable[[float], ParameterVector], derivative: ParameterVector, eps: float, floor: float = 0.0
) -> dict[str, Agreement]:
    """Compare the derivative of ``function`` at zero with its differences, group by group, at several steps.

    Steps go from ``eps ** (1/6)`` to ``eps ** (1/2)``; three shorter ones show the rounding. A step that crosses kinks is not believed.
    Values are taken to be uncertain by ``eps * floor`` at least. Cost: seventeen evaluations.
    """
    centre = function(0.0)
    rounding = eps * (centre.norm() + floor)
    steps = _steps(eps)
    seconds, agreements = zip(*(_compared(function, centre, derivative, step) for step in steps), strict=True)
    found = {}
    for name in derivative.arrays:
        uncertainties = _uncertainties(steps, [second[name] for second in seconds], rounding)
        believed = [
            _relative(agreement[name], uncertainty + rounding / step + 10 * eps * derivative.norm())
            for step, agreement, uncertainty in zip(steps, agreements, uncertainties, strict=True)
        ]
        found[name] = _best(believed[_FOR_ROUNDING:])
    return found


def _compared(
    function: Callable[[float], ParameterVector], centre: ParameterVector, derivative: ParameterVector, step: float
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return by group the second difference, and the error and the size of the central one."""
    ahead, behind = function(step), function(-step)
    # What forward and backward differences are apart.
    second = (ahead - centre) - (centre - behind)
    central = (ahead - behind) / (2 * step)
    wrong = central - derivative
    return (
        {name: _norm(second, name) for name in derivative.arrays},
        {name: (_norm(wrong, name), max(_norm(derivative, name), _norm(central, name))) for name in derivative.arrays},
    )


def _uncertainties(steps: list[float], seconds: list[float], rounding: float) -> Iterator[float]:
    """Yield the uncertainty of the central difference at each step, from all second differences.

    Rounding does not get smaller with the step: what a shorter one saw, this one has too. Where a second difference is neither
    rounding nor falls as the square of the step, it is of kinks between here and there, which all longer steps cross, too. Their share
    in the central difference may be the same at every step, as many small kinks look like curvature from afar: nothing can be said.
    """
    noise, kinked = max(rounding, seconds[0]), False
    for number, step in enumerate(steps):
        if 0 < number < len(steps) - 1:
            smooth = seconds[number + 1] * (step / steps[number + 1]) ** 2
            kinked = kinked or seconds[number] > _KINKED * (smooth + noise)
        yield np.inf if kinked else max(rounding, *seconds[: number + 1]) / (2 * step)


def agreement_of_numbers(function: Callable[[float], float], derivative: float, eps: float) -> Agreement:
    """Compare the derivative of a function of natural size at zero with its differences, as :func:`agreement_by_group`."""

    def vector(value: float) -> ParameterVector:
        return ParameterVector(np, {"value": np.asarray(value, dtype=np.float64)})

    found = agreement_by_group(lambda step: vector(function(step)), vector(derivative), eps, floor=NATURAL_SIZE)
    return found["value"]


def _steps(eps: float) -> list[float]:
    """Return the steps from the shortest, which changes the last digits alone, to the longest."""
    return [2 * eps, *(float(eps**exponent) for exponent in np.linspace(2 / 3, 1 / 6, _FOR_ROUNDING - 1 + _BELIEVED))]


def _relative(error_and_size: tuple[float, float], uncertainty: float) -> Agreement:
    error, size = error_and_size
    return Agreement(error / size, uncertainty / size) if size > 0 else Agreement(0.0, 0.0)


def _best(steps: list[Agreement]) -> Agreement:
    least = min(step.uncertainty for step in steps)
    return min((step for step in steps if step.uncertainty <= _FACTOR * least), key=lambda step: step.error)


def persists(again: Callable[[int], Agreement], tolerance: float) -> bool:
    """Whether a disagreement is there in most of four further directions, or cannot be judged in any of them."""
    judged = [agreement for number in range(_REPEATS) if (agreement := again(number)).judged]
    return 2 * sum(not agreement.fits(tolerance) for agreement in judged) >= len(judged)


def _norm(vector: ParameterVector, name: str) -> float:
    return float(vector.xp.sum(vector[name] * vector[name])) ** 0.5
