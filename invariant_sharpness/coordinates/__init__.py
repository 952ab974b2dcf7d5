"""Coordinates in which a measure is taken: scales, the scaled oracle, and the solver of (17)."""

from __future__ import annotations

from invariant_sharpness.coordinates.gauss_newton import GaussNewton
from invariant_sharpness.coordinates.moved import Moved
from invariant_sharpness.coordinates.scaled import Scaled
from invariant_sharpness.coordinates.scales import balanced, filter_norms, magnitudes, matrix_norms, optimal

__all__ = ["GaussNewton", "Moved", "Scaled", "balanced", "filter_norms", "magnitudes", "matrix_norms", "optimal"]
