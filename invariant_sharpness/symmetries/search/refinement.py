"""The search for generators among given variables, and among groups of neighbouring ones.

What rescales whole layers, or many units at once, is searched for in levels. The variables of each axis are divided into groups of one
width, and a solution that rescales groups is refined into those that rescale parts of them, as far as it goes. In a small network the groups
are single variables, and there is one level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from invariant_sharpness.symmetries.generators import Generator
from invariant_sharpness.symmetries.scaling_variables import HostArray, Numbers, ScalingVariables
from invariant_sharpness.symmetries.search.elimination import KnownSpace
from invariant_sharpness.symmetries.search.equations import Equations
from invariant_sharpness.symmetries.search.null_space import Quotient, solve_null_space, sparse_generators
from invariant_sharpness.symmetries.search.overlaps import (
    Overlap,
    VariableGroup,
    find_overlaps,
    involved,
    mean_exponents,
    trivial_directions,
)

_COLUMNS_COST = 1e-3
"""Where a row and a column are equivalent, as in a depthwise kernel, the row is named."""

_PLACES_COST = 1e-5
"""Where two layers are equivalent, the one that comes first is named: else rounding would choose."""

_SMALL_WIDTH = 64
_KNOWN = 1e-6


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
    max_groups
        The number of groups that are solved for at once.
    tolerance
        Singular values below this, relative to the largest, count as zero.
    """

    equations: Equations
    max_groups: int
    tolerance: float
    least_gap: float = field(default=np.inf, init=False)

    def among(self, variables: Numbers) -> list[Generator]:
        """Find the generators that have only these variables."""
        level = self._level([variables[place : place + 1] for place in range(len(variables))])
        return [self._generator(level.groups, vector) for vector in level.vectors]

    def by_groups(self, known: KnownSpace) -> list[Generator]:
        """Find the generators that rescale groups alike and are not known, and divide them into finer ones."""
        level = self._level(divided(whole_axes(self.equations.variables), self.max_groups), known)
        rests = np.abs(known.reduced(self._expanded(level.groups, level.vectors))).max(axis=1, initial=0.0)
        fresh = [vector for vector, rest in zip(level.vectors, rests, strict=True) if rest > _KNOWN]
        return [generator for vector in fresh for generator in self._refined(level, vector)]

    def generator(self, vector: HostArray) -> Generator:
        """Make a generator of a vector with one exponent for each variable."""
        return self._generator(list(np.arange(len(vector))[:, None]), vector)

    def _refined(self, level: Level, vector: HostArray) -> Iterator[Generator]:
        """Split a generator that rescales groups into those that rescale parts of them, as far as it goes."""
        own = [level.groups[number] for number in np.flatnonzero(involved(level.overlaps, vector, level.costs))]
        parts = divided(own, self.max_groups)
        if len(parts) == len(own):
            yield self._generator(level.groups, vector)
            return
        finer = self._level(parts)
        for part in finer.vectors:
            yield from self._refined(finer, part)

    def _level(self, groups: Sequence[VariableGroup], known: KnownSpace | None = None) -> Level:
        """Search among those of the groups that act."""
        acting = self.equations.acting
        present = [group for group in groups if acting[group].any()]
        space = solve_null_space(self.equations.scaled_columns(present), self.tolerance)
        self.least_gap = min(self.least_gap, space.gap)
        found, costs = find_overlaps(self.equations, present), self._costs(present)
        if known is not None and self._explained(present, space.basis, known):
            return Level(present, found, costs, [])
        quotient = Quotient(
            space.basis / self.equations.group_sizes(present)[:, None],
            trivial_directions(found, len(present)),
            mean_exponents(found, len(present)),
            costs,
        )
        return Level(present, found, costs, sparse_generators(quotient, self.tolerance))

    def _explained(self, groups: Sequence[VariableGroup], basis: HostArray, known: KnownSpace) -> bool:
        """Whether the vectors of the basis are combinations of known generators, but for the precision of the basis."""
        vectors = list((basis / self.equations.group_sizes(groups)[:, None]).T)
        rests = known.reduced(self._expanded(groups, vectors)) * self.equations.sizes
        return float(np.linalg.norm(rests, axis=1).max(initial=0.0)) <= self.tolerance**0.5

    def _expanded(self, groups: Sequence[VariableGroup], vectors: Sequence[HostArray]) -> HostArray:
        """Give every variable the exponent of its group, in a row for each vector."""
        rows = np.zeros((len(vectors), len(self.equations.sizes)))
        for number, group in enumerate(groups):
            rows[:, group] = np.array([vector[number] for vector in vectors])[:, None]
        return rows * self.equations.acting

    def _costs(self, groups: Sequence[VariableGroup]) -> HostArray:
        """Compute the fraction of the variables of its axis that a group has; a little more where there is a choice between equals."""
        acting, variables = self.equations.acting, self.equations.variables
        on_axis = np.bincount(variables.axis_of[acting], minlength=len(variables.axes))
        parts = [acting[group].sum() / on_axis[variables.axis_of[group[0]]] for group in groups]
        columns = [not variables.on_first_axis(int(group[0])) for group in groups]
        places = np.array([group[0] for group in groups], dtype=np.float64) / max(len(variables), 1)
        return np.array(parts) * (1 + _COLUMNS_COST * np.array(columns) + _PLACES_COST * places)

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
