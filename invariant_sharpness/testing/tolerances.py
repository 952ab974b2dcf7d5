"""How far two numbers may differ that are the same on paper, as a function of the precision of the parameters."""

from __future__ import annotations

_MOST_HIDDEN = 0.05
"""In half precision a thousand roundings would be more than the whole."""


def of_differences(precision: float) -> float:
    """What central differences can reach: 6e-6 in double precision, 5e-3 in single precision, 0.2 in bfloat16."""
    return float(precision ** (1 / 3))


def of_rounding(precision: float) -> float:
    """What two ways through the same network have in common: 5e-7 in double precision, 2e-3 in single precision, 0.14 in bfloat16."""
    return float(precision**0.4)


def relative_error(difference: float, size: float, whole: float, precision: float) -> float:
    """Size of a difference relative to what is compared, but to no less than rounding in the whole can hide.

    Rounding somewhere in a network reaches every part of a vector, also one that is tiny or zero.
    """
    hidden = min(1e3 * precision, _MOST_HIDDEN) / of_rounding(precision)
    return difference / (size + hidden * whole) if difference > 0 else 0.0
