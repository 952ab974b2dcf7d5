"""How far two values of one metric are apart, and how far they may be."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, inf, isfinite
from typing import Literal

from scipy.special import stdtrit

from invariant_sharpness.results.estimate import Estimate

_RELATIVE_GAPS = 4.0
"""Two values may differ by so many of their relative gaps: both have one, and it is an estimate."""

_STANDARD_ERRORS = 5.0
"""Two samples may differ by so many standard errors: by more once in two million times."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two values, and their relative change: the difference over the larger of both.

    Parameters
    ----------
    before, after
        The values.
    tolerance
        The relative change that is explained.
    """

    before: float
    after: float
    tolerance: float

    @property
    def change(self) -> float:
        """Relative change; NaN if one of the values is."""
        difference = abs(self.after - self.before)
        return difference / max(abs(self.before), abs(self.after)) if difference else 0.0

    @property
    def holds(self) -> bool:
        """Whether the change is explained."""
        return self.change <= self.tolerance

    def __str__(self) -> str:
        return f"{self.before:.6g} and {self.after:.6g}, which differ by {self.change:.2g} (tolerated: {self.tolerance:.2g})"


def same_draws(before: Estimate, after: Estimate, precision: float) -> Agreement:
    """Compare values that have the same random numbers: rounding explains 6e-6 in double precision, and iterations their relative gap."""
    own = max(_gap(before), _gap(after))
    return Agreement(before.value, after.value, max(precision ** (1 / 3), _RELATIVE_GAPS * own))


def other_draws(before: Estimate, after: Estimate, precision: float) -> Agreement:
    """Compare values whose random numbers may be others: their standard errors explain more."""
    size = max(abs(before.value), abs(after.value)) or 1.0
    sampled = _STANDARD_ERRORS * hypot(before.standard_error or 0.0, after.standard_error or 0.0) / size
    own = same_draws(before, after, precision)
    return Agreement(own.before, own.after, own.tolerance + sampled)


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two values of one metric, and where it lies with a probability of 95 %.

    Parameters
    ----------
    before, after
        The values.
    lower, upper
        The ends of the interval of ``after - before``; infinite where an error is not known.
    """

    before: float
    after: float
    lower: float
    upper: float

    @property
    def value(self) -> float:
        """The difference."""
        return self.after - self.before

    @property
    def verdict(self) -> Literal["beyond error", "within error", "cannot be told"]:
        """Whether the difference exceeds the errors of both values."""
        if not (isfinite(self.lower) and isfinite(self.upper)):
            return "cannot be told"
        return "within error" if self.lower <= 0 <= self.upper else "beyond error"


def difference(before: Estimate, after: Estimate, precision: float) -> Difference:
    """Compare the values of two models, whose sampling errors count as independent.

    With the same seed both models are probed along the same random vectors, which cancels a part of the error of the difference: the interval is
    then too wide rather than too narrow. Brackets, relative gaps and rounding widen it.

    Parameters
    ----------
    before, after
        The values.
    precision
        Machine epsilon of the less precise model.

    Returns
    -------
    Difference
        With the quantile of Student's t for the degrees of freedom of Welch and Satterthwaite. The interval is infinite where an iteration did not
        converge, and where a value is a lower bound alone.

    Examples
    --------
    >>> from invariant_sharpness import Estimate
    >>> sharp, flat = (Estimate("trace", value, "probes", standard_error=0.3) for value in (5.0, 3.0))
    >>> found = difference(sharp, flat, 2.0**-52)
    >>> round(found.lower, 2), round(found.upper, 2), found.verdict
    (-2.83, -1.17, 'beyond error')
    """
    if not (before.converged and after.converged):
        return Difference(before.value, after.value, -inf, inf)
    errors = [before.standard_error or 0.0, after.standard_error or 0.0]
    reach = float(stdtrit(_degrees_of_freedom(before, after), 0.975)) * hypot(*errors)
    slack = reach + same_draws(before, after, precision).tolerance * max(abs(before.value), abs(after.value))
    (low, high), (start, end) = (one.bracket or (one.value, one.value) for one in (before, after))
    return Difference(before.value, after.value, start - high - slack, end - low + slack)


def _degrees_of_freedom(*values: Estimate) -> float:
    """Those of the difference, by Welch and Satterthwaite; infinite where a value has none."""
    variances = [(value.standard_error or 0.0) ** 2 for value in values]
    spread = sum(v**2 / (value.degrees_of_freedom or inf) for v, value in zip(variances, values, strict=True))
    return sum(variances) ** 2 / spread if spread else inf


def _gap(value: Estimate) -> float:
    """The relative gap; that of a lower bound of a maximum says nothing about how well it can be reproduced."""
    return 0.0 if value.bracket is not None else value.relative_gap or 0.0
