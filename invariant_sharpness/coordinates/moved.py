"""The same loss, looked at from another point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from invariant_sharpness.coordinates.forwarding import Forwarding
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, SubsetOracle


@dataclass(frozen=True, slots=True)
class Moved(Forwarding):
    """An oracle whose model "is" at other parameters; the model itself stays where it is.

    Parameters
    ----------
    base
        The oracle of the model.
    parameters
        Where metrics shall measure it, such as a rescaled copy of ``base.parameters``.
    """

    base: CurvatureOracle
    parameters: ParameterVector

    def subset(self, examples: Sequence[int], /) -> Moved:
        return Moved(self._able(SubsetOracle).subset(examples), self.parameters)
