"""What can be rescaled: the rows and the columns of a parameter, or each of its entries.

All rows and columns of a network, numbered through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.protocol import HostArrays, ParameterGroup

HostArray = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The units of a parameter along some of its axes: its rows, its columns, or its entries.

    Parameters
    ----------
    group
        The parameter.
    axes
        The axes along which units are counted.
    units
        The unit that each entry belongs to, in a shape that broadcasts to the parameter's.
    count
        Number of units.
    """

    group: ParameterGroup
    axes: tuple[int, ...]
    units: Numbers
    count: int

    def sums(self, values: HostArray) -> HostArray:
        """Sum of ``values`` over the entries of each unit."""
        others = tuple(axis for axis, size in enumerate(self.units.shape) if size == 1)
        reduced = values.sum(axis=others, keepdims=True)
        return np.bincount(self.units.ravel(), weights=reduced.ravel(), minlength=self.count).astype(np.float64)

    def spread(self, values: HostArray) -> HostArray:
        """The value of its unit for every entry."""
        return np.broadcast_to(values[self.units], self.group.shape)

    def describe(self, units: Sequence[int]) -> str:
        """The entries of these units, in the notation of NumPy."""
        if len(units) == self.count:
            return self.group.name
        return ", ".join(self._entries(first, last) for first, last in _runs(units, joined=len(self.axes) == 1))

    def _entries(self, first: int, last: int) -> str:
        index: list[str] = [":"] * len(self.group.shape)
        divided = self.units.shape != tuple(n if a in self.axes else 1 for a, n in enumerate(self.group.shape))
        if divided:
            component, within = divmod(first, self.count // self.group.channel_groups)
            (other,) = (a for a, n in enumerate(self.units.shape) if n > 1 and a not in self.axes)
            width = self.group.shape[other] // self.group.channel_groups
            index[other] = f"{component * width}:{(component + 1) * width}"
            index[self.axes[0]] = _slice(within, within + last - first)
        elif len(self.axes) == 1:
            index[self.axes[0]] = _slice(first, last)
        else:
            sizes = [self.group.shape[axis] for axis in self.axes]
            for axis, place in zip(self.axes, np.unravel_index(first, sizes), strict=True):
                index[axis] = str(place)
        while index and index[-1] == ":":
            index.pop()
        return f"{self.group.name}[{', '.join(index)}]"


def sides(group: ParameterGroup) -> tuple[Side, ...]:
    """Rows and columns of a weight; the entries of a bias or a gain; one side for each axis of anything else."""
    axes = tuple(range(len(group.shape)))
    if group.is_weight:
        return _side(group, group.output_axes, "output"), _side(group, group.input_axes, "input")
    if group.role == "other" and len(axes) > 1:
        return tuple(_side(group, (axis,)) for axis in axes)
    return (_side(group, axes),)


def _side(group: ParameterGroup, axes: tuple[int, ...], name: str = "") -> Side:
    sizes = [group.shape[axis] for axis in axes]
    shape = [n if axis in axes else 1 for axis, n in enumerate(group.shape)]
    stored, groups = prod(sizes), group.channel_groups
    # Axes are counted in the order in which a weight names them, which need not be that of the layout.
    order = np.argsort(axes)
    units = np.transpose(np.arange(stored).reshape(sizes), order).reshape(shape)
    if groups == 1 or name != group.divided_axes:
        return Side(group, axes, units, stored)
    across = group.output_axes if name == "input" else group.input_axes
    other: Any = _side(group, across)
    component = other.units // (other.count // groups)
    return Side(group, axes, component * stored + units, groups * stored)


def _runs(units: Sequence[int], *, joined: bool) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    runs: list[tuple[int, int]] = []
    for unit in units:
        if joined and runs and runs[-1][1] == unit - 1:
            runs[-1] = (runs[-1][0], unit)
        else:
            runs.append((unit, unit))
    return runs


def _slice(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}:{last + 1}"


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
