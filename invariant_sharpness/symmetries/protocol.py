"""What a symmetry is: a source of moves of the parameters that leave the loss alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from invariant_sharpness.parameters.vector import ParameterVector


class Move(Protocol):
    """One change of the parameters."""

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        """The moved parameters; those given are not touched."""
        ...


class Symmetry(Protocol):
    """A family of moves that leave the loss alone.

    ``kind`` is the invariance that a metric must declare if its value shall stay under these moves, in the words of
    :data:`invariant_sharpness.symmetries.Invariance`.
    """

    @property
    def kind(self) -> str:
        """Which claim of a metric covers these moves."""
        ...

    def moves(self, seed: int, /) -> Mapping[str, Move]:
        """A few moves, by a name that says how strong they are, the mildest first."""
        ...
