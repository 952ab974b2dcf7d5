"""All rows and columns of a network, numbered through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from invariant_sharpness.protocol import HostArrays, ParameterGroup
from invariant_sharpness.symmetries.sides import HostArray, Side, sides

Exponents = Mapping[int, float]
"""The exponent of each unit that is rescaled, by the number of the unit."""


class Units:
    """The rows and columns of all parameters: the unknowns of a diagonal rescaling.

    Parameters
    ----------
    groups
        The parameters, as the oracle names them.
    """

    def __init__(self, groups: Sequence[ParameterGroup]) -> None:
        self.groups = tuple(groups)
        self.sides: tuple[Side, ...] = tuple(side for group in groups for side in sides(group))
        self.starts = np.cumsum([0, *(side.count for side in self.sides)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def side_of(self) -> npt.NDArray[np.intp]:
        """The number of the side that each unit belongs to."""
        return np.repeat(np.arange(len(self.sides)), [side.count for side in self.sides])

    def on_first_side(self, unit: int) -> bool:
        """Whether the unit is a row, or an entry: on the first side of its parameter."""
        number = int(self.side_of[unit])
        return number == 0 or self.sides[number - 1].group is not self.sides[number].group

    def sums(self, values: HostArrays) -> HostArray:
        """Sum of ``values`` over each unit."""
        return np.concatenate([side.sums(values[side.group.name]) for side in self.sides])

    def exponents(self, chosen: Exponents) -> dict[str, HostArray]:
        """The exponent of each parameter: the sum of those of its row and of its column."""
        total = {group.name: np.zeros(group.shape) for group in self.groups}
        for number, (side, units) in self.by_side(chosen).items():
            vector = np.zeros(side.count)
            vector[units] = [chosen[int(self.starts[number]) + unit] for unit in units]
            total[side.group.name] = total[side.group.name] + side.spread(vector)
        return total

    def by_side(self, chosen: Exponents) -> dict[int, tuple[Side, list[int]]]:
        """The chosen units of each side, counted within it."""
        found: dict[int, tuple[Side, list[int]]] = {}
        for unit in sorted(chosen):
            number = int(self.side_of[unit])
            found.setdefault(number, (self.sides[number], []))[1].append(unit - int(self.starts[number]))
        return found
