"""Exponents are simple fractions: rounding is taken off them."""

from __future__ import annotations

import numpy as np

from invariant_sharpness.symmetries.sides import HostArray

_LARGEST_DENOMINATOR = 12
_FRACTIONS = np.unique([p / q for q in range(1, _LARGEST_DENOMINATOR + 1) for p in range(-q, q + 1)])


def simple_fractions(rows: HostArray, tolerance: float) -> HostArray:
    """Each row with its largest entry at 1 or -1; what is within ``tolerance`` of a fraction of small denominator is that fraction."""
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    scaled = rows / np.where(largest == 0, 1.0, largest)
    above = np.searchsorted(_FRACTIONS, scaled).clip(1, len(_FRACTIONS) - 1)
    lower, upper = _FRACTIONS[above - 1], _FRACTIONS[above]
    nearest = np.where(scaled - lower < upper - scaled, lower, upper)
    return np.where(np.abs(scaled - nearest) < tolerance, nearest, scaled)
