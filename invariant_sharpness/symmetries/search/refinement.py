"""The search for generators: of single units that are aligned, then among groups of neighbouring variables, then within the groups of each one that was found.

What single units of one number have is found first. A network with more unknowns than are solved for at once is then searched in levels: the
variables of each axis are divided into groups of one width, and a solution that rescales groups is refined into those that rescale parts of them, as far as it goes.
What was found on different branches may be dependent, so that independent generators are chosen at the end. At last every variable is an
unknown of its own, beside what is known by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from invariant_sharpness.symmetries.generators import Generator
from invariant_sharpness.symmetries.scaling_variables import HostArray, Numbers, ScalingVariables
from invariant_sharpness.symmetries.search.aligned_units import AlignedUnits
from invariant_sharpness.symmetries.search.equations import Equations
from invariant_sharpness.symmetries.search.independence import independent
from invariant_sharpness.symmetries.search.levels import Level, Tolerances, generator_of, solve_level
from invariant_sharpness.symmetries.search.overlaps import VariableGroup, involved
from invariant_sharpness.symmetries.search.remainder import Remainder, find_remainder, solutions

_SMALL_WIDTH = 64
_UNIT_POWER = 0.87
_ROUNDINGS = 3.0
_MOST_IN_CLUSTER = 400
"""There is a linear program for each of these variables, and its time grows with their second power and more."""


@dataclass(slots=True)
class Search:
    """The search for the generators of a network, given its equations.

    Parameters
    ----------
    equations
        What the variables contribute to each equation.
    known
        Independent generators that are known; what is found is added to them.
    epsilon
        The machine epsilon of the network.
    """

    equations: Equations
    known: list[Generator]
    epsilon: float
    least_gap: float = field(default=np.inf, init=False)

    @property
    def tolerances(self) -> Tolerances:
        """What counts as rounding among groups."""
        return Tolerances(self.epsilon ** (2 / 3), self.epsilon ** (1 / 3))

    @property
    def unit_tolerances(self) -> Tolerances:
        """What counts as rounding among the few variables of one unit.

        It is less: among thousands of units there are some that a constant hardly keeps from being rescaled, as a channel before its normalization
        whose mean over the data is nearly zero.
        """
        rounding = max(self.epsilon**_UNIT_POWER, _ROUNDINGS * self.equations.relative_rounding)
        return self.tolerances._replace(zero=min(self.tolerances.zero, rounding))

    def among_aligned_units(self) -> None:
        """Find generators of single units among the variables that have the same place on axes of the same length."""
        aligned = AlignedUnits(self.equations, self.unit_tolerances)
        self._add(aligned.generators())
        self.least_gap = min(self.least_gap, aligned.least_gap)

    def among_groups(self, most: int) -> int:
        """Divide the axes into at most so many groups of neighbouring variables, and find what rescales these, or parts of them.

        Returns
        -------
        int
            The largest number of variables in a group.
        """
        groups = divided(whole_axes(self.equations.variables), most)
        level = self._level(groups)
        self._add(generator for vector in level.vectors for generator in self._refined(level, vector, most))
        return max(map(len, groups), default=1)

    def among_all(self) -> None:
        """Find what rescales any variables and is independent of what is known.

        Vectors that share variables are searched for sparser ones, if they are few. What does not solve the equations, of which there may be more by now, is no
        longer known.
        """
        self.known = solutions(self.known, self.equations, self.tolerances.zero)
        remainder = find_remainder(self.equations, self.known, self.tolerances)
        self.least_gap = min(self.least_gap, remainder.gap)
        clusters = remainder.clusters(_MOST_IN_CLUSTER)
        self._add(generator for cluster in clusters for generator in self._in_cluster(remainder, *cluster))

    def _in_cluster(self, remainder: Remainder, variables: Numbers, rows: Numbers) -> Iterator[Generator]:
        groups = [np.array([variable]) for variable in variables]
        if len(rows) > 1 and len(groups) <= _MOST_IN_CLUSTER:
            level = self._level(groups)
            yield from (generator_of(self.equations, level.groups, vector) for vector in level.vectors)
        for row in rows:
            yield generator_of(self.equations, groups, remainder.vectors[row, variables])

    def _add(self, found: Iterator[Generator]) -> None:
        self.known = independent([*self.known, *found], self.equations)

    def _refined(self, level: Level, vector: HostArray, most: int) -> Iterator[Generator]:
        """Split a generator that rescales groups into those that rescale parts of them, as far as it goes."""
        own = [level.groups[number] for number in np.flatnonzero(involved(level.overlaps, vector, level.costs))]
        parts = divided(own, most)
        if len(parts) == len(own):
            yield generator_of(self.equations, level.groups, vector)
            return
        finer = self._level(parts)
        for part in finer.vectors:
            yield from self._refined(finer, part, most)

    def _level(self, groups: Sequence[VariableGroup]) -> Level:
        level = solve_level(self.equations, groups, self.tolerances, self.known)
        self.least_gap = min(self.least_gap, level.gap)
        return level


def whole_axes(variables: ScalingVariables) -> list[VariableGroup]:
    """Return one group for each axis."""
    return np.split(np.arange(len(variables)), variables.starts[1:-1])


def divided(groups: Sequence[VariableGroup], most: int) -> list[VariableGroup]:
    """Divide the groups into parts of one width, but into no more than ``most`` parts in all.

    The one width divides as many groups as possible, so that the parts of different axes fit each other; the last part of a group may be shorter.
    """
    sizes = np.array([len(group) for group in groups], dtype=np.intp)
    choices = [(width, _part_widths(sizes, width, most)) for width in _candidate_widths(sizes)]
    fitting = [(_fitting(sizes, widths, width), _count(sizes, widths), widths) for width, widths in choices]
    widths = max(fitting, key=lambda choice: choice[:2])[2]
    return [part for group, width in zip(groups, widths, strict=True) for part in _cut(group, int(width))]


def _part_widths(sizes: Numbers, width: int, most: int) -> Numbers:
    """Choose the width of the parts of each group. Those of equal size are divided all or none, as long as there are few enough parts.

    Those of which it is a divisor come first, and the smaller ones.
    """
    widths = sizes
    larger = np.unique(sizes[sizes > width])
    for size in larger[np.argsort(larger % width != 0, kind="stable")]:
        more = np.where(sizes == size, width, widths)
        widths = more if _count(sizes, more) <= most else widths
    return widths


def _fitting(sizes: Numbers, widths: Numbers, width: int) -> float:
    """Rate how well the groups fit each other: best if they are divided without a rest, worst if they are much longer and whole."""
    is_divided, exact = widths < sizes, sizes % width == 0
    longer = sizes[widths > width] / width
    return float(
        np.sum(is_divided & exact) + np.sum((is_divided | exact) & (sizes >= width)) - 2 * np.sum(np.log2(longer))
    )


def _candidate_widths(sizes: Numbers) -> list[int]:
    """List all divisors of the sizes, and small numbers."""
    dividing = {d for size in set(sizes.tolist()) for d in range(1, size + 1) if size % d == 0}
    return sorted(dividing | set(range(1, min(_SMALL_WIDTH, int(sizes.max())) + 1)))


def _count(sizes: Numbers, widths: Numbers) -> int:
    return int(np.sum(-(-sizes // widths)))


def _cut(group: VariableGroup, width: int) -> list[VariableGroup]:
    return np.split(group, np.arange(width, len(group), width))
