"""How far two numbers may differ that are the same on paper, as a function of the precision of the parameters."""

from __future__ import annotations


def of_differences(precision: float) -> float:
    """What central differences can reach: 6e-6 in double precision, 5e-3 in single precision."""
    return float(precision ** (1 / 3))


def of_rounding(precision: float) -> float:
    """What two ways through the same network have in common: 5e-7 in double precision, 2e-3 in single precision."""
    return float(precision**0.4)


def relative_error(difference: float, size: float, whole: float, precision: float) -> float:
    """Size of a difference relative to what is compared, but to no less than rounding in the whole can hide.

    Rounding somewhere in a network reaches every part of a vector, also one that is tiny or zero.
    """
    return difference / (size + 1e3 * precision / of_rounding(precision) * whole) if difference > 0 else 0.0
