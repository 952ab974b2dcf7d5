"""The equations of a network, put together at many points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from invariant_sharpness.symmetries.finding.components import components
from invariant_sharpness.symmetries.sides import HostArray, Numbers
from invariant_sharpness.symmetries.units import Units

_ROUNDINGS = 30


@dataclass(frozen=True)
class Equations:
    """What each unit contributes to each equation.

    Parameters
    ----------
    units
        Rows and columns: the unknowns.
    coefficients
        Array (equations, units).
    magnitudes
        What each parameter contributes, in absolute value, on average.
    rounding
        Rounding in what is added up in each unit, on average.
    """

    units: Units
    coefficients: HostArray
    magnitudes: Mapping[str, HostArray]
    rounding: HostArray

    @cached_property
    def sizes(self) -> HostArray:
        """What is added up in each unit, in absolute value, on average."""
        return self.units.sums(self.magnitudes)

    @cached_property
    def acting(self) -> npt.NDArray[np.bool_]:
        """Which units act on the outputs: on some of the inputs, at some of the points, and by more than rounding."""
        return self.sizes > _ROUNDINGS * self.rounding

    @cached_property
    def components(self) -> Numbers:
        """A number for each unit, the same for those that meet in entries that act."""
        return components(self.units, self.magnitudes)

    def joined(self, more: Equations) -> Equations:
        """Both systems in one."""
        return Equations(
            self.units,
            np.concatenate([self.coefficients, more.coefficients]),
            {name: (values + more.magnitudes[name]) / 2 for name, values in self.magnitudes.items()},
            (self.rounding + more.rounding) / 2,
        )

    def of_blocks(self, blocks: Sequence[Numbers]) -> HostArray:
        """One column for each block, in units of what is added up in it: what cancels within a block shall look small."""
        columns = np.zeros((len(self.coefficients), len(blocks)))
        for number, block in enumerate(blocks):
            columns[:, number] = self.coefficients[:, block].sum(axis=1)
        return columns / self.sizes_of_blocks(blocks)

    def sizes_of_blocks(self, blocks: Sequence[Numbers]) -> HostArray:
        """What is added up in each block, in absolute value."""
        return np.array([self.sizes[block].sum() for block in blocks])
