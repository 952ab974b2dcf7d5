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
from scipy.linalg import qr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from invariant_sharpness.symmetries.scaling_variables import HostArray, Numbers, ScalingAxis, ScalingVariables

VariableGroup = Numbers
"""The numbers of variables of one axis, often neighbouring ones."""

_ZERO = 1e-9


AxisPair = tuple[int, int]
"""The numbers of two axes of one parameter."""


def connected_variables(
    variables: ScalingVariables, magnitudes: Mapping[str, HostArray]
) -> dict[AxisPair, tuple[Numbers, Numbers]]:
    """Label the connected components of the variables on each two axes of a parameter, by entries whose magnitude is not zero.

    A weight has one for each channel group, and more if a mask leaves out entries.
    """
    return {
        (p, q): _connected_variables(first, other, magnitudes[first.parameter.name])
        for (p, first), (q, other) in combinations(enumerate(variables.axes), 2)
        if first.parameter is other.parameter
    }


def _connected_variables(first: ScalingAxis, other: ScalingAxis, magnitudes: HostArray) -> tuple[Numbers, Numbers]:
    pair = np.broadcast_arrays(first.variables, other.variables)
    between = tuple(axis for axis, size in enumerate(pair[0].shape) if size == 1)
    linked = (magnitudes > 0).any(axis=between, keepdims=True)
    rows, columns = (numbers[linked] for numbers in pair)
    count = first.count + other.count
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, first.count + columns)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1].astype(np.intp)
    return labels[: first.count], labels[first.count :]


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
    def components(self) -> Mapping[AxisPair, tuple[Numbers, Numbers]]:
        """The connected component of each variable, for each two axes of a parameter."""
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
    for number, axis in enumerate(equations.variables.axis_of[[group[0] for group in groups]].tolist()):
        by_axis.setdefault(axis, []).append(number)
    return [
        overlap
        for pair in equations.components
        if pair[0] in by_axis and pair[1] in by_axis
        for overlap in _on_axes(equations, groups, pair, (by_axis[pair[0]], by_axis[pair[1]]))
    ]


def _on_axes(
    equations: ActingVariables,
    groups: Sequence[VariableGroup],
    pair: AxisPair,
    present: tuple[list[int], list[int]],
) -> Iterator[Overlap]:
    """Join groups by the components of their variables."""
    acting, starts = equations.acting, equations.variables.starts
    labels = equations.components[pair]
    members = {
        g: own[groups[g][acting[groups[g]]] - starts[axis]]
        for axis, own, on_axis in zip(pair, labels, present, strict=True)
        for g in on_axis
    }
    own = [numbers[acting[starts[axis] : starts[axis + 1]]] for axis, numbers in zip(pair, labels, strict=True)]
    second = set(present[1])
    for connected in _connected(members):
        rows, columns = [g for g in connected if g not in second], [g for g in connected if g in second]
        if rows and columns:
            found = np.unique(np.concatenate([members[g] for g in connected]))
            sizes = [np.array([len(members[g]) for g in axis], dtype=np.float64) for axis in (rows, columns)]
            totals = [int(np.isin(numbers, found).sum()) for numbers in own]
            yield Overlap((rows, columns), (sizes[0], sizes[1]), (totals[0], totals[1]))


def _connected(members: Mapping[int, Numbers]) -> list[list[int]]:
    """Split the groups into those that share no component."""
    names = np.array(list(members))
    numbers = np.repeat(np.arange(len(names)), [len(own) for own in members.values()])
    shared = np.unique(np.concatenate(list(members.values())), return_inverse=True)[1]
    count = len(names) + len(numbers)
    graph = coo_array((np.ones(len(numbers)), (numbers, len(names) + shared)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1][: len(names)]
    order = np.argsort(labels, kind="stable")
    return [part.tolist() for part in np.split(names[order], np.flatnonzero(np.diff(labels[order])) + 1)]


def trivial_directions(found: Sequence[Overlap], count: int) -> HostArray:
    """Return independent columns that span the trivial directions of ``count`` groups.

    Each two axes of a parameter have one for each component of their variables, if all of these that act are in the groups. Those of
    more than two axes depend on each other.
    """
    complete = [overlap for overlap in found if overlap.complete]
    columns = np.zeros((count, len(complete)))
    for number, ((rows, others), *_) in enumerate(complete):
        columns[rows, number], columns[others, number] = 1.0, -1.0
    if not complete:
        return columns
    # Rank, by pivots.
    triangle, pivots = qr(columns, mode="r", pivoting=True)
    rank = int(np.sum(np.abs(np.diag(triangle)) > _ZERO * abs(triangle[0, 0])))
    return columns[:, np.sort(pivots[:rank])]


def trivial_rows(equations: ActingVariables) -> Iterator[dict[int, float]]:
    """Yield the trivial directions of single variables, as the entries that are not zero."""
    variables, acting = equations.variables, equations.acting
    for pair, labels in equations.components.items():
        numbers = [np.arange(variables.starts[k], variables.starts[k + 1]) for k in pair]
        chosen = [(own[acting[own]], label[acting[own]]) for own, label in zip(numbers, labels, strict=True)]
        (rows, up), (columns, down) = chosen
        for label in np.unique(down):
            above, below = rows[up == label], columns[down == label]
            yield dict.fromkeys(above.tolist(), 1.0) | dict.fromkeys(below.tolist(), -1.0)


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
