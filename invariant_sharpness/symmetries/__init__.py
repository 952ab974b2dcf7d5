"""What leaves the function of a network alone."""

from __future__ import annotations

from invariant_sharpness.symmetries.collection import Symmetries
from invariant_sharpness.symmetries.finder import find_symmetries
from invariant_sharpness.symmetries.rescaling import Generator, Rescaling
from invariant_sharpness.symmetries.unit_rescaling import UnitRescaling, chain_rescalings, unit_count

__all__ = [
    "Generator",
    "Rescaling",
    "Symmetries",
    "UnitRescaling",
    "chain_rescalings",
    "find_symmetries",
    "unit_count",
]
