"""How far two values of one metric are apart, and how far they may be."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot

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


def _gap(value: Estimate) -> float:
    """The relative gap; that of a lower bound of a maximum says nothing about how well it can be reproduced."""
    return 0.0 if value.bracket is not None else value.relative_gap or 0.0
