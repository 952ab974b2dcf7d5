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

_DEPENDENT = 1e-6

VariableGroup = Numbers
"""The numbers of neighbouring variables of one axis."""


class PairOfAxes(NamedTuple):
    """Two axes of one parameter, by their numbers, and the connected component that each of their variables is in."""

    axes: tuple[int, int]
    components: tuple[Numbers, Numbers]


def connected_axes(variables: ScalingVariables, magnitudes: Mapping[str, HostArray]) -> list[PairOfAxes]:
    """Find the connected components of each pair of axes of a parameter, by entries whose magnitude is not zero.

    A weight has one for each channel group, and more if a mask leaves out entries. Where axes count pairs of indices, as (e, i) and (e, j),
    there is one for each index that they share.
    """
    return [
        PairOfAxes(pair, _components(variables, pair, magnitudes))
        for pair in combinations(range(len(variables.axes)), 2)
        if variables.axes[pair[0]].parameter is variables.axes[pair[1]].parameter
    ]


def _components(
    variables: ScalingVariables, pair: tuple[int, int], magnitudes: Mapping[str, HostArray]
) -> tuple[Numbers, Numbers]:
    """Label the variables on both axes."""
    first, second = (variables.axes[number] for number in pair)
    sides = np.broadcast_arrays(first.variables, second.variables + first.count)
    between = tuple(axis for axis, size in enumerate(sides[0].shape) if size == 1)
    linked = (magnitudes[first.parameter.name] > 0).any(axis=between, keepdims=True)
    rows, columns = (numbers[linked] for numbers in sides)
    count = first.count + second.count
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1].astype(np.intp)
    return labels[: first.count], labels[first.count :]


class ActingVariables(Protocol):
    """What the overlaps need of the equations: the variables, which of them act, and how they are connected."""

    @property
    def variables(self) -> ScalingVariables:
        """The scaling variables of the network."""
        ...

    @cached_property
    def acting(self) -> npt.NDArray[np.bool_]:
        """Which variables act on the outputs."""
        ...

    @cached_property
    def pairs(self) -> list[PairOfAxes]:
        """The pairs of axes of each parameter."""
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
    """

    groups: tuple[list[int], list[int]]
    sizes: tuple[HostArray, HostArray]
    totals: tuple[int, int]

    @property
    def complete(self) -> bool:
        """Whether all that are connected are among the groups: then one axis up and the other down is a trivial direction."""
        return all(sizes.sum() == total for sizes, total in zip(self.sizes, self.totals, strict=True))


def find_overlaps(equations: ActingVariables, groups: Sequence[VariableGroup]) -> list[Overlap]:
    """List all overlaps: a parameter has one for each component of its variables, for each pair of its axes."""
    by_axis: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        by_axis.setdefault(int(equations.variables.axis_of[group[0]]), []).append(number)
    return [
        overlap
        for pair in equations.pairs
        if by_axis.keys() >= set(pair.axes)
        for overlap in _on_axes(equations, groups, pair, [by_axis[axis] for axis in pair.axes])
    ]


def _on_axes(
    equations: ActingVariables, groups: Sequence[VariableGroup], pair: PairOfAxes, present: list[list[int]]
) -> Iterator[Overlap]:
    """Join groups by the components of their variables."""
    acting, starts = equations.acting, equations.variables.starts
    members: dict[int, Numbers] = {}
    own: list[Numbers] = []
    for axis, components, numbers in zip(pair.axes, pair.components, present, strict=True):
        members |= {g: components[groups[g][acting[groups[g]]] - starts[axis]] for g in numbers}
        own.append(components[acting[starts[axis] : starts[axis + 1]]])
    for connected in _connected(members):
        rows, columns = ([g for g in axis if g in connected] for axis in present)
        if rows and columns:
            found = np.unique(np.concatenate([members[g] for g in connected]))
            sizes = [np.array([len(members[g]) for g in axis], dtype=np.float64) for axis in (rows, columns)]
            totals = [int(np.isin(numbers, found).sum()) for numbers in own]
            yield Overlap((rows, columns), (sizes[0], sizes[1]), (totals[0], totals[1]))


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
    """Return independent columns that span the trivial directions of ``count`` groups.

    Each pair of axes of a parameter has one for each component of its variables, if all of these that act are in the groups.
    """
    columns = np.zeros((count, 0))
    frame = np.zeros((count, 0))
    for (rows, others), *_ in filter(lambda overlap: overlap.complete, found):
        column = np.zeros((count, 1))
        column[rows], column[others] = 1.0, -1.0
        rest = column - frame @ (frame.T @ column)
        if np.linalg.norm(rest) > _DEPENDENT * np.linalg.norm(column):
            columns = np.concatenate([columns, column], axis=1)
            frame = np.concatenate([frame, rest / np.linalg.norm(rest)], axis=1)
    return columns


def trivial_rows(equations: ActingVariables) -> Iterator[dict[int, float]]:
    """Yield the trivial directions of single variables, as the entries that are not zero."""
    starts = equations.variables.starts
    for pair in equations.pairs:
        numbers = np.concatenate([np.arange(starts[axis], starts[axis + 1]) for axis in pair.axes])
        signs = np.repeat([1.0, -1.0], [len(labels) for labels in pair.components])
        labels = np.concatenate(pair.components)
        present = equations.acting[numbers]
        numbers, signs, labels = numbers[present], signs[present], labels[present]
        order = np.argsort(labels, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
            if len(set(signs[part].tolist())) > 1:
                yield dict(zip(numbers[part].tolist(), signs[part].tolist(), strict=True))


def mean_exponents(found: Sequence[Overlap], count: int) -> HostArray:
    """Return the mean exponent of the entries of each group, in a row, as a linear function of the exponents of all ``count`` groups."""
    means = np.eye(count)
    for (rows, columns), sizes, totals in found:
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
