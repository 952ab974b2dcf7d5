r"""Symmetries of single units, found among variables that have the same place on axes of the same length.

A unit of a layer is a row of its weight, an entry of its bias, and a column of what follows: variables with one number on axes of one length.
A channel of a stream has one number in all layers that write to it or read from it; where it is flattened it is a block of columns, or columns
at one distance from each other, and where several layers are stored in one it has a place in each of them. The variables of one number are few,
however large the network is. What was found for one number is tried on all others, so that few of them have to be solved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from invariant_sharpness.symmetries.generators import Generator
from invariant_sharpness.symmetries.scaling_variables import HostArray, Numbers, ScalingVariables
from invariant_sharpness.symmetries.search.equations import Equations
from invariant_sharpness.symmetries.search.levels import Tolerances, generator_of, solve_level
from invariant_sharpness.symmetries.search.null_space import solve_null_space

_MOST_PARTS = 4
"""Layers that are stored in one: queries, keys and values, or the gates of a cell."""

_MORE_EQUATIONS = 16

Alignment = list[Numbers]
"""For each place, the variables of each unit in rows."""


@dataclass(slots=True)
class AlignedUnits:
    """The search among aligned variables.

    Parameters
    ----------
    equations
        What the variables contribute to each equation.
    tolerances
        What counts as rounding.
    """

    equations: Equations
    tolerances: Tolerances
    least_gap: float = field(default=np.inf, init=False)

    def generators(self) -> Iterator[Generator]:
        """Yield what is found for single units, not all of it independent; those of the longest axes first."""
        for alignment in alignments(self.equations.variables):
            if len(alignment) + _MORE_EQUATIONS <= len(self.equations.coefficients):
                yield from self._aligned(alignment)

    def _aligned(self, alignment: Alignment) -> Iterator[Generator]:
        patterns = np.zeros((len(alignment), 0))
        single = np.array([unit.shape[1] == 1 for unit in alignment])
        for number in range(len(alignment[0])):
            groups = [units[number] for units in alignment]
            present = np.array([self.equations.acting[group].any() for group in groups])
            own = [group for group, acts in zip(groups, present, strict=True) if acts]
            held, others = self._held(own, patterns[present])
            if others:
                level = solve_level(self.equations, own, self.tolerances)
                held = np.column_stack([level.trivial, *level.vectors])
                more = np.zeros((len(alignment), held.shape[1]))
                more[present] = held
                patterns = np.unique(np.concatenate([patterns, more], axis=1), axis=1)
            for vector in held.T:
                if vector[single[present]].any():
                    yield generator_of(self.equations, own, vector)

    def _held(self, groups: list[Numbers], patterns: HostArray) -> tuple[HostArray, bool]:
        """Return the patterns that solve the equations of one unit, and whether there are other solutions."""
        columns = self.equations.scaled_columns(groups)
        scaled = patterns * self.equations.group_sizes(groups)[:, None]
        residuals = np.linalg.norm(columns @ scaled, axis=0)
        bounds = self.tolerances.zero * len(columns) ** 0.5 * np.linalg.norm(scaled, axis=0)
        holds = residuals < bounds
        space = solve_null_space(columns, self.tolerances.zero, scaled[:, holds])
        self.least_gap = min(self.least_gap, space.gap)
        return patterns[:, holds], bool(space.basis.shape[1])


def alignments(variables: ScalingVariables) -> Iterator[Alignment]:
    """Yield the ways to align axes: those of one length, with those that are several as long cut in parts, blocks or strides."""
    counts = np.diff(variables.starts)
    for length in np.unique(counts[counts > 1])[::-1].tolist():
        several = counts[(counts > length) & (counts % length == 0)] // length
        yield _alignment(variables, length, "parts")
        if several.size:
            yield _alignment(variables, length, "blocks")
            yield _alignment(variables, length, "strides")


def _alignment(variables: ScalingVariables, length: int, cut: str) -> Alignment:
    found: Alignment = []
    for start, stop in zip(variables.starts, variables.starts[1:], strict=False):
        numbers, several = np.arange(start, stop), (stop - start) // length
        if several * length != stop - start or not several:
            continue
        if several == 1:
            found.append(numbers[:, None])
        elif cut == "blocks":
            found.append(numbers.reshape(length, several))
        elif cut == "strides":
            found.append(numbers.reshape(several, length).T)
        elif several <= _MOST_PARTS:
            found.extend(numbers.reshape(several, length, 1))
    return found
