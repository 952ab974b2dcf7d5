"""Symmetries of networks: what can be done to the parameters without a change of the loss.

- :func:`find_symmetries` finds every rescaling of rows and columns, in any network whose outputs can be differentiated.
- :class:`UnitRescaling`, :class:`UnitPermutation`, :class:`HeadMixing`, :class:`OutputShift` and :class:`OutputScale` are ready-made: they
  name the parameters they act on.
- A :class:`Symmetry` yields a few :class:`Transformation`, with which :func:`invariant_sharpness.certify` tests metrics.
- :data:`Invariance` has the words in which a metric declares what does not change it; :func:`covers` says what follows from them.
"""

from __future__ import annotations

from invariant_sharpness.symmetries.finder import find_symmetries
from invariant_sharpness.symmetries.generators import Generator, Rescaling, Symmetries
from invariant_sharpness.symmetries.head_mixing import HeadMixing, Mixing
from invariant_sharpness.symmetries.invariances import SYMMETRIES, Invariance, NamedSymmetry, covers
from invariant_sharpness.symmetries.outputs import AffineChange, OutputScale, OutputShift
from invariant_sharpness.symmetries.protocol import Symmetry, Transformation, transformations_of
from invariant_sharpness.symmetries.unit_permutation import Permutation, UnitPermutation, chain_permutations
from invariant_sharpness.symmetries.unit_rescaling import UnitFactors, UnitRescaling, chain_rescalings, unit_count

Move = Transformation
"""The name of :class:`Transformation` in version 0.1."""

__all__ = [
    "SYMMETRIES",
    "AffineChange",
    "Generator",
    "HeadMixing",
    "Invariance",
    "Mixing",
    "Move",
    "NamedSymmetry",
    "OutputScale",
    "OutputShift",
    "Permutation",
    "Rescaling",
    "Symmetries",
    "Symmetry",
    "Transformation",
    "UnitFactors",
    "UnitPermutation",
    "UnitRescaling",
    "chain_permutations",
    "chain_rescalings",
    "covers",
    "find_symmetries",
    "transformations_of",
    "unit_count",
]
