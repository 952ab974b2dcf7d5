"""What leaves the function of a network alone."""

from __future__ import annotations

from invariant_sharpness.symmetries.claims import SYMMETRIES, Invariance, NamedSymmetry, covers
from invariant_sharpness.symmetries.finder import find_symmetries
from invariant_sharpness.symmetries.generators import Generator, Rescaling, Symmetries
from invariant_sharpness.symmetries.head_mixing import HeadMixing
from invariant_sharpness.symmetries.outputs import OutputScale, OutputShift
from invariant_sharpness.symmetries.permutation import UnitPermutation, chain_permutations
from invariant_sharpness.symmetries.protocol import Move, Symmetry
from invariant_sharpness.symmetries.unit_rescaling import UnitRescaling, chain_rescalings, unit_count

__all__ = [
    "SYMMETRIES",
    "Generator",
    "HeadMixing",
    "Invariance",
    "Move",
    "NamedSymmetry",
    "OutputScale",
    "OutputShift",
    "Rescaling",
    "Symmetries",
    "Symmetry",
    "UnitPermutation",
    "UnitRescaling",
    "chain_permutations",
    "chain_rescalings",
    "covers",
    "find_symmetries",
    "unit_count",
]
