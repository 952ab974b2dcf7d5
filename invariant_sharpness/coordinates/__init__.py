"""Coordinates in which a measure is taken: an oracle that is scaled, moved, restricted, or has the Gauss-Newton matrix for its Hessian.

All of them are oracles, so that whatever measures one measures them, too. :mod:`invariant_sharpness.coordinates.scales` has the scales.
"""

from __future__ import annotations

from invariant_sharpness.coordinates.gauss_newton import GaussNewton
from invariant_sharpness.coordinates.moved import Moved
from invariant_sharpness.coordinates.restricted import Restricted
from invariant_sharpness.coordinates.scaled import Scaled
from invariant_sharpness.coordinates.scales import balanced, filter_norms, magnitudes, matrix_norms, optimal

__all__ = [
    "GaussNewton",
    "Moved",
    "Restricted",
    "Scaled",
    "balanced",
    "filter_norms",
    "magnitudes",
    "matrix_norms",
    "optimal",
]
