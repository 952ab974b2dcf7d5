"""Scaling variables: the exponents of a diagonal rescaling, one for each row and one for each column of every parameter.

A weight has two axes of variables, its output units and its input units. A bias or a gain has one, its entries. A parameter of unknown
role has one for each of two array axes, and one for each pair of array axes if there are more: of a weight (heads, dimensions, width) any two may
count units, or inputs. The exponent of an entry is the sum of those of its row and its column. The variables of a whole network are numbered
through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import comb, log2, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.protocol import HostArrays, ParameterGroup

HostArray = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.intp]

_MOST_PAIRS = 1024
_MOST_PER_INDEX = 4


@dataclass(frozen=True, slots=True, eq=False)
class ScalingAxis:
    """The variables of one axis of a parameter: those of its rows, of its columns, or of its entries.

    Parameters
    ----------
    parameter
        The parameter.
    axes
        The array axes along which the variables are counted.
    variables
        The variable that each entry belongs to, counted within this axis, in a shape that broadcasts to the parameter's.
    count
        The number of variables.
    """

    parameter: ParameterGroup
    axes: tuple[int, ...]
    variables: Numbers
    count: int

    def sums(self, values: HostArray) -> HostArray:
        """Sum ``values`` over the entries of each variable."""
        others = tuple(axis for axis, size in enumerate(self.variables.shape) if size == 1)
        reduced = values.sum(axis=others, keepdims=True)
        return np.bincount(self.variables.ravel(), weights=reduced.ravel(), minlength=self.count).astype(np.float64)

    def spread(self, values: HostArray) -> HostArray:
        """Give every entry the value of its variable."""
        return np.broadcast_to(values[self.variables], self.parameter.shape)

    def describe(self, variables: Sequence[int]) -> str:
        """Write the entries of these variables in the notation of NumPy."""
        if len(variables) == self.count:
            return self.parameter.name
        return ", ".join(self._entries(first, last) for first, last in _runs(variables, self._run_length))

    @property
    def _run_length(self) -> int:
        """How many consecutive variables differ in one index alone."""
        if len(self.axes) > 1:
            return self.parameter.shape[self.axes[-1]]
        return self.count // (1 if self.variables.size == self.count else self.parameter.channel_groups)

    def _entries(self, first: int, last: int) -> str:
        chosen = (self.variables >= first) & (self.variables <= last)
        index = [
            _slice(np.unique(numbers), size) for numbers, size in zip(np.nonzero(chosen), chosen.shape, strict=True)
        ]
        while index and index[-1] == ":":
            index.pop()
        return f"{self.parameter.name}[{', '.join(index)}]"


def scaling_axes(group: ParameterGroup) -> tuple[ScalingAxis, ...]:
    """List the axes of a parameter: rows and columns of a weight, entries of a bias or a gain, each array axis of anything else, or pairs of them."""
    axes = tuple(range(len(group.shape)))
    if group.is_weight:
        return _scaling_axis(group, group.output_axes, "output"), _scaling_axis(group, group.input_axes, "input")
    if group.role == "other" and len(axes) > 1:
        return tuple(_scaling_axis(group, chosen) for chosen in _pairs_of_axes(group.shape))
    return (_scaling_axis(group, axes),)


def _pairs_of_axes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """List the pairs of axes, but for those of very many index pairs, and the axes that are in none of them."""
    if len(shape) == 2:
        return [(0,), (1,)]
    most = max(_MOST_PAIRS, _MOST_PER_INDEX * max(shape))
    pairs: list[tuple[int, ...]] = [
        (p, q) for p, q in combinations(range(len(shape)), 2) if shape[p] * shape[q] <= most
    ]
    return pairs + [(axis,) for axis in range(len(shape)) if all(axis not in pair for pair in pairs)]


def _scaling_axis(group: ParameterGroup, axes: tuple[int, ...], name: str = "") -> ScalingAxis:
    sizes = [group.shape[axis] for axis in axes]
    shape = [n if axis in axes else 1 for axis, n in enumerate(group.shape)]
    stored, channel_groups = prod(sizes), group.channel_groups
    # Number the variables in the order in which a weight names its axes, which need not be that of the layout.
    order = np.argsort(axes)
    variables = np.transpose(np.arange(stored).reshape(sizes), order).reshape(shape)
    if channel_groups == 1 or name != group.divided_axes:
        return ScalingAxis(group, axes, variables, stored)
    # The stored channels count within a channel group, which the other axis tells.
    across = group.output_axes if name == "input" else group.input_axes
    other: Any = _scaling_axis(group, across)
    component = other.variables // (other.count // channel_groups)
    return ScalingAxis(group, axes, component * stored + variables, channel_groups * stored)


def _runs(variables: Sequence[int], length: int) -> list[tuple[int, int]]:
    """Find the first and the last number of each run of consecutive ones that does not go beyond a multiple of ``length``."""
    runs: list[tuple[int, int]] = []
    for variable in variables:
        if runs and runs[-1][1] == variable - 1 and variable % length:
            runs[-1] = (runs[-1][0], variable)
        else:
            runs.append((variable, variable))
    return runs


def _slice(numbers: Numbers, size: int) -> str:
    """Write consecutive numbers as an index; all that there are, as a colon."""
    if len(numbers) == size:
        return ":"
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}:{numbers[-1] + 1}"


Exponents = Mapping[int, float]
"""The exponents that are not zero, by the number of the variable."""


class ScalingVariables:
    """The scaling variables of all parameters: the unknowns of a diagonal rescaling.

    Parameters
    ----------
    groups
        The parameters, as the oracle names them.
    """

    def __init__(self, groups: Sequence[ParameterGroup]) -> None:
        self.groups = tuple(groups)
        self.axes: tuple[ScalingAxis, ...] = tuple(axis for group in groups for axis in scaling_axes(group))
        self.starts = np.cumsum([0, *(axis.count for axis in self.axes)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def without_all_pairs(self) -> tuple[str, ...]:
        """The parameters of unknown role of which some pairs of axes have more index pairs than there are variables for."""
        others = (group for group in self.groups if group.role == "other" and len(group.shape) > 2)
        pairs = {g.name: [axes for axes in _pairs_of_axes(g.shape) if len(axes) == 2] for g in others}
        return tuple(g.name for g in self.groups if g.name in pairs and len(pairs[g.name]) < comb(len(g.shape), 2))

    @cached_property
    def axis_of(self) -> Numbers:
        """The number of the axis that each variable belongs to."""
        return np.repeat(np.arange(len(self.axes)), [axis.count for axis in self.axes])

    def on_first_axis(self, variable: int) -> bool:
        """Whether the variable is that of a row, or of an entry: on the first axis of its parameter."""
        number = int(self.axis_of[variable])
        return number == 0 or self.axes[number - 1].parameter is not self.axes[number].parameter

    def sums(self, values: HostArrays) -> HostArray:
        """Sum ``values`` over the entries of each variable."""
        return np.concatenate([axis.sums(values[axis.parameter.name]) for axis in self.axes])

    def exponents(self, chosen: Exponents) -> dict[str, HostArray]:
        """Add the exponents of its row and of its column for each entry of each parameter."""
        total = {group.name: np.zeros(group.shape) for group in self.groups}
        for number, (axis, variables) in self.by_axis(chosen).items():
            vector = np.zeros(axis.count)
            vector[variables] = [chosen[int(self.starts[number]) + variable] for variable in variables]
            total[axis.parameter.name] = total[axis.parameter.name] + axis.spread(vector)
        return total

    def by_axis(self, chosen: Exponents) -> dict[int, tuple[ScalingAxis, list[int]]]:
        """Sort the chosen variables by their axis, counted within it."""
        found: dict[int, tuple[ScalingAxis, list[int]]] = {}
        for variable in sorted(chosen):
            number = int(self.axis_of[variable])
            found.setdefault(number, (self.axes[number], []))[1].append(variable - int(self.starts[number]))
        return found


def whole_logarithms(draws: HostArray, largest: float) -> HostArray:
    """Turn numbers uniform on [-1, 1) into logarithms to base 2 of powers of two from ``1/largest`` to ``largest``."""
    return np.round(draws * (np.floor(log2(largest)) + 0.5))


def any_logarithms(draws: HostArray, largest: float) -> HostArray:
    """Turn numbers uniform on [-1, 1) into logarithms to base 2 of any factors from ``1/largest`` to ``largest``."""
    return draws * log2(largest)
