"""The search for generators: first among groups of neighbouring variables, then within the groups of each one that was found.

A network with more unknowns than can be solved for at once is searched in levels. The variables of each axis are divided into groups of one
width, and a solution that rescales groups is refined into those that rescale parts of them, as far as it goes. What was found on different
branches may be dependent, so that independent generators are chosen at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from invariant_sharpness.symmetries.generators import Generator
from invariant_sharpness.symmetries.scaling_variables import HostArray, Numbers, ScalingVariables
from invariant_sharpness.symmetries.search.equations import Equations
from invariant_sharpness.symmetries.search.null_space import Quotient, solve_null_space, sparse_generators
from invariant_sharpness.symmetries.search.overlaps import (
    Overlap,
    VariableGroup,
    find_overlaps,
    involved,
    mean_exponents,
    trivial_directions,
    trivial_rows,
)

_COLUMNS_COST = 1e-3
"""Where a row and a column are equivalent, as in a depthwise kernel, the row is named."""

_SMALL_WIDTH = 64
_ZERO = 1e-9

SparseRow = dict[int, float]
"""The entries of a vector that are not zero."""


class Level(NamedTuple):
    """Groups that are searched together, and the sparse vectors that were found: one exponent per group in each."""

    groups: list[VariableGroup]
    overlaps: list[Overlap]
    costs: HostArray
    vectors: list[HostArray]


@dataclass(slots=True)
class Search:
    """The search for the generators of a network, given its equations.

    Parameters
    ----------
    equations
        What the variables contribute to each equation.
    max_unknowns
        The number of unknowns that are solved for at once.
    tolerance
        Singular values below this, relative to the largest, count as zero.
    """

    equations: Equations
    max_unknowns: int
    tolerance: float
    least_gap: float = field(default=np.inf, init=False)
    widest: int = field(default=1, init=False)

    def run(self) -> list[Generator]:
        """Find all generators; sets ``least_gap``, and ``widest``: the width of the groups of the first search."""
        groups = divided(whole_axes(self.equations.variables), self.max_unknowns)
        self.widest = max(map(len, groups), default=1)
        level = self._level(groups)
        found = [generator for vector in level.vectors for generator in self._refined(level, vector)]
        return independent(found, self.equations)

    def _refined(self, level: Level, vector: HostArray) -> Iterator[Generator]:
        """Split a generator that rescales groups into those that rescale parts of them, as far as it goes."""
        own = [level.groups[number] for number in np.flatnonzero(involved(level.overlaps, vector, level.costs))]
        parts = divided(own, self.max_unknowns)
        if len(parts) == len(own):
            yield self._generator(level.groups, vector)
            return
        finer = self._level(parts)
        for part in finer.vectors:
            yield from self._refined(finer, part)

    def _level(self, groups: Sequence[VariableGroup]) -> Level:
        """Search among those of the groups that act."""
        acting = self.equations.acting
        present = [group for group in groups if acting[group].any()]
        space = solve_null_space(self.equations.scaled_columns(present), self.tolerance)
        self.least_gap = min(self.least_gap, space.gap)
        found, costs = find_overlaps(self.equations, present), self._costs(present)
        quotient = Quotient(
            space.basis / self.equations.group_sizes(present)[:, None],
            trivial_directions(found, len(present)),
            mean_exponents(found, len(present)),
            costs,
        )
        return Level(present, found, costs, sparse_generators(quotient, self.tolerance))

    def _costs(self, groups: Sequence[VariableGroup]) -> HostArray:
        """Compute the fraction of the variables of its axis that a group has."""
        acting, variables = self.equations.acting, self.equations.variables
        on_axis = np.bincount(variables.axis_of[acting], minlength=len(variables.axes))
        parts = [acting[group].sum() / on_axis[variables.axis_of[group[0]]] for group in groups]
        return np.array(parts) * [1 + _COLUMNS_COST * (not variables.on_first_axis(int(g[0]))) for g in groups]

    def _generator(self, groups: Sequence[VariableGroup], vector: HostArray) -> Generator:
        """Make a generator of a vector. Variables that do not act take no part; the first one that does goes up."""
        acting = self.equations.acting
        chosen = [(group, exponent) for group, exponent in zip(groups, vector, strict=True) if exponent]
        exponents = {int(number): float(exponent) for group, exponent in chosen for number in group[acting[group]]}
        sign = np.sign(exponents[min(exponents)])
        return Generator(
            self.equations.variables, {number: float(sign * exponent) for number, exponent in exponents.items()}
        )


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


def independent(generators: Sequence[Generator], equations: Equations) -> list[Generator]:
    """Keep the generators that are independent of those before them, and of trivial directions, by elimination.

    A variable that few generators have is eliminated first, so that rows stay short.
    """
    elimination = Elimination(Counter(number for generator in generators for number in generator.exponents))
    for row in trivial_rows(equations):
        elimination.add(row)
    return [generator for generator in generators if elimination.add(dict(generator.exponents))]


class Elimination:
    """Rows in echelon form, each with a pivot variable that no later row has.

    Parameters
    ----------
    uses
        How many rows there will be with each variable.
    """

    def __init__(self, uses: Counter[int]) -> None:
        self._uses = uses
        self._rows: list[SparseRow] = []
        self._row_of: dict[int, int] = {}
        self._pivots: list[int] = []

    def add(self, row: SparseRow) -> bool:
        """Add a row, and say whether it is independent of those before it."""
        while numbers := [self._row_of[variable] for variable in row if variable in self._row_of]:
            self._eliminate(row, min(numbers))
        if not row:
            return False
        pivot = min(row, key=lambda variable: (self._uses[variable], variable))
        self._row_of[pivot] = len(self._rows)
        self._pivots.append(pivot)
        self._rows.append(row)
        return True

    def _eliminate(self, row: SparseRow, number: int) -> None:
        known, pivot = self._rows[number], self._pivots[number]
        factor = row.pop(pivot) / known[pivot]
        for variable, value in known.items():
            if variable != pivot:
                row[variable] = row.get(variable, 0.0) - factor * value
                if abs(row[variable]) < _ZERO:
                    del row[variable]
