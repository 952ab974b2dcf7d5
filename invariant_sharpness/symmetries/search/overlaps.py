"""The graph of overlaps: which rows and columns share an entry that acts, and which exponents therefore change nothing.

Rows and columns of a parameter are the two sides of a bipartite graph; an entry that acts on the outputs is an edge. All rows of a connected
component up and all its columns down changes no entry: a *trivial direction*, which is no symmetry of the network. In a large network the
search begins with groups of neighbouring variables, which overlap where their variables do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import combinations
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from invariant_sharpness.symmetries.scaling_variables import HostArray, Numbers, ScalingVariables

VariableGroup = Numbers
"""The numbers of neighbouring variables of one axis."""


def connected_variables(variables: ScalingVariables, magnitudes: Mapping[str, HostArray]) -> Numbers:
    """Label the connected components of the variables, by entries whose magnitude is not zero.

    A weight has one for each channel group, and more if a mask leaves out entries.
    """
    edges = list(_edges(variables, magnitudes))
    first, second = np.concatenate(edges, axis=1) if edges else np.zeros((2, 0), dtype=np.intp)
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(len(variables), len(variables)))
    return connected_components(graph, directed=False)[1].astype(np.intp)


def _edges(variables: ScalingVariables, magnitudes: Mapping[str, HostArray]) -> Iterator[Numbers]:
    """Yield the variables on the first axis of a parameter and on each other one, entry by entry."""
    for first, start in zip(variables.axes, variables.starts, strict=False):
        for other, other_start in zip(variables.axes, variables.starts, strict=False):
            if other.parameter is first.parameter and other_start > start and variables.on_first_axis(int(start)):
                pair = np.broadcast_arrays(first.variables + start, other.variables + other_start)
                between = tuple(axis for axis, size in enumerate(pair[0].shape) if size == 1)
                linked = (magnitudes[first.parameter.name] > 0).any(axis=between, keepdims=True)
                yield np.stack([numbers[linked] for numbers in pair])


class ActingVariables(Protocol):
    """What the overlaps need of the equations: the variables, which of them act, and their connected components."""

    @property
    def variables(self) -> ScalingVariables:
        """The scaling variables of the network."""
        ...

    @cached_property
    def acting(self) -> npt.NDArray[np.bool_]:
        """Which variables act on the outputs."""
        ...

    @cached_property
    def components(self) -> Numbers:
        """The connected component of each variable."""
        ...


class Overlap(NamedTuple):
    """Groups on two axes of a parameter that share entries.

    Parameters
    ----------
    groups
        Their numbers, for each of the two axes.
    sizes
        How many variables that act each of them has.
    totals
        How many variables that act there are on each axis in all.
    first
        Whether the one axis is the first of the parameter.
    """

    groups: tuple[list[int], list[int]]
    sizes: tuple[HostArray, HostArray]
    totals: tuple[int, int]
    first: bool

    @property
    def complete(self) -> bool:
        """Whether all that are connected are among the groups: then one axis up and the other down is a trivial direction."""
        return all(sizes.sum() == total for sizes, total in zip(self.sizes, self.totals, strict=True))


def find_overlaps(equations: ActingVariables, groups: Sequence[VariableGroup]) -> list[Overlap]:
    """List all overlaps: a parameter has one for each component of its variables, for each pair of its axes."""
    variables = equations.variables
    by_axis: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        by_axis.setdefault(int(variables.axis_of[group[0]]), []).append(number)
    return [
        overlap
        for pair in combinations(sorted(by_axis), 2)
        if variables.axes[pair[0]].parameter is variables.axes[pair[1]].parameter
        for overlap in _on_axes(equations, groups, pair, (by_axis[pair[0]], by_axis[pair[1]]))
    ]


def _on_axes(
    equations: ActingVariables,
    groups: Sequence[VariableGroup],
    axes: tuple[int, int],
    present: tuple[list[int], list[int]],
) -> Iterator[Overlap]:
    """Join groups by the components of their variables."""
    acting, variables = equations.acting, equations.variables
    members = {g: equations.components[groups[g][acting[groups[g]]]] for axis in present for g in axis}
    own = [equations.components[acting & (variables.axis_of == axis)] for axis in axes]
    first = variables.on_first_axis(int(variables.starts[axes[0]]))
    for connected in _connected(members):
        rows, columns = ([g for g in axis if g in connected] for axis in present)
        if rows and columns:
            found = np.unique(np.concatenate([members[g] for g in connected]))
            sizes = [np.array([len(members[g]) for g in axis], dtype=np.float64) for axis in (rows, columns)]
            totals = [int(np.isin(numbers, found).sum()) for numbers in own]
            yield Overlap((rows, columns), (sizes[0], sizes[1]), (totals[0], totals[1]), first)


def _connected(members: Mapping[int, Numbers]) -> list[set[int]]:
    """Split the groups into sets that share no component."""
    names = list(members)
    numbers = np.repeat(np.arange(len(names)), [len(members[g]) for g in names])
    shared = np.unique(np.concatenate(list(members.values())), return_inverse=True)[1]
    count = len(names) + len(numbers)
    graph = coo_array((np.ones(len(numbers)), (numbers, len(names) + shared)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1][: len(names)]
    return [{names[k] for k in np.flatnonzero(labels == label)} for label in np.unique(labels)]


def trivial_directions(found: Sequence[Overlap], count: int) -> HostArray:
    """Return one column for each trivial direction of ``count`` groups.

    A parameter with k axes has k - 1 for each component of its variables, if all of these that act are in the groups.
    """
    columns = np.zeros((count, 0))
    for (rows, others), _, _, first in filter(lambda overlap: overlap.complete, found):
        if first:
            column = np.zeros((count, 1))
            column[rows], column[others] = 1.0, -1.0
            columns = np.concatenate([columns, column], axis=1)
    return columns


def trivial_rows(equations: ActingVariables) -> Iterator[dict[int, float]]:
    """Yield the trivial directions of single variables, as the entries that are not zero."""
    variables, labels = equations.variables, np.where(equations.acting, equations.components, -1)
    for number, axis in enumerate(variables.axes):
        if not variables.on_first_axis(int(variables.starts[number])):
            first = next(k for k, other in enumerate(variables.axes) if other.parameter is axis.parameter)
            up, down = (np.arange(variables.starts[k], variables.starts[k + 1]) for k in (first, number))
            for label in np.unique(labels[down][labels[down] >= 0]):
                rows, columns = up[labels[up] == label], down[labels[down] == label]
                yield dict.fromkeys(rows.tolist(), 1.0) | dict.fromkeys(columns.tolist(), -1.0)


def mean_exponents(found: Sequence[Overlap], count: int) -> HostArray:
    """Return the mean exponent of the entries of each group, in a row, as a linear function of the exponents of all ``count`` groups."""
    means = np.eye(count)
    for (rows, columns), sizes, totals, _ in found:
        means[np.ix_(rows, columns)] += sizes[1] / totals[1]
        means[np.ix_(columns, rows)] += sizes[0] / totals[0]
    return means


def involved(found: Sequence[Overlap], vector: HostArray, costs: HostArray) -> npt.NDArray[np.bool_]:
    """Mark the groups that take part in a vector, or in an equivalent one at no higher cost.

    All rows up is equivalent to all columns up, and one half of both axes up and down to the other half down and up.
    """
    marks = vector != 0
    for (rows, columns), *_ in filter(lambda overlap: overlap.complete, found):
        own = np.concatenate([vector[rows], -vector[columns]])
        weights = np.concatenate([costs[rows], costs[columns]])
        shifts = np.unique([0.0, *own])
        prices = np.abs(own - shifts[:, None]) @ weights
        for shift in shifts[prices <= prices.min() * 1.01]:
            marks[[*rows, *columns]] |= own != shift
    return marks
