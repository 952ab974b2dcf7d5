r"""Units that belong together, told from the equations alone: a unit's row and bias, and the columns that read it.

At random points the signs of parameters are random. Changing the signs in a column that reads a unit changes the sign of what the unit's row,
its bias and that column contribute to an equation, and of nothing that other units of the layer contribute. So contributions are correlated
between the variables of one unit, and not between units. The connected components of the graph of correlations are small sets of variables,
and each is solved by itself.

A vector that solves as many equations as its component has variables, and a few more, solves all of them: at random points the equations of a
component without a symmetry are independent. So what is found is exact however large the network is; what is missed is what no correlation shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from invariant_sharpness.symmetries.scaling_variables import HostArray, Numbers
from invariant_sharpness.symmetries.search.equations import Equations

EQUATIONS = 1024
"""The number of equations among which correlations are looked for."""

_DEVIATIONS = 6.0
_LARGEST_SIGNAL = 3.0
_BLOCK = 1024
_LARGEST_COMPONENT = 200
_HIGHER = 1.3
_ROUNDS = 6


class Graph(NamedTuple):
    """Pairs of variables whose contributions are correlated, and the correlations."""

    first: Numbers
    second: Numbers
    correlations: HostArray


def related_variables(equations: Equations, tolerance: float) -> list[Numbers]:
    """List the sets of at most 200 variables that may have a generator of their own: the components of the graph, completed.

    A component that is larger is divided where correlations are weakest. One whose contributions nearly cancel lacks variables, mostly a bias
    that contributes little: those that are correlated with what is left over are added. A variable whose contributions vanish stands alone.
    """
    acting = np.flatnonzero(equations.acting)
    columns = equations.coefficients[:EQUATIONS, acting] / equations.sizes[acting]
    vanish = np.linalg.norm(columns, axis=0) <= tolerance * len(columns) ** 0.5
    alone = list(acting[vanish][:, None])
    acting, columns = acting[~vanish], columns[:, ~vanish]
    signals = _signals(columns)
    least = _DEVIATIONS / len(signals) ** 0.5
    components = list(_components(_graph(signals, least), np.arange(len(acting)), least))
    return alone + [acting[component] for component in _completed(components, columns, signals, least, tolerance)]


def _signals(columns: HostArray) -> HostArray:
    """Bring columns to unit length, in single precision; what is much larger than usual is cut off, so that no equation decides alone."""
    usual = np.abs(columns).mean(axis=0)
    cut = np.clip(columns / np.where(usual == 0, 1.0, usual), -_LARGEST_SIGNAL, _LARGEST_SIGNAL).astype(np.float32)
    lengths = np.linalg.norm(cut, axis=0)
    signals: HostArray = cut / np.where(lengths == 0, 1.0, lengths)
    return signals


def _graph(signals: HostArray, least: float) -> Graph:
    """Find all pairs whose correlation is at least so large, block by block."""
    found: list[tuple[Numbers, Numbers, HostArray]] = []
    for start in range(0, signals.shape[1], _BLOCK):
        correlations = np.abs(signals[:, start : start + _BLOCK].T @ signals[:, start:])
        first, second = np.nonzero(correlations >= least)
        upper = second > first
        first, second = first[upper], second[upper]
        found.append((first + start, second + start, correlations[first, second]))
    return Graph(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _components(graph: Graph, members: Numbers, least: float) -> Iterator[Numbers]:
    """Yield the connected components of more than one variable; those that are too large, divided."""
    places = np.full(int(members.max(initial=-1)) + 1, -1)
    places[members] = np.arange(len(members))
    pairs = coo_array(
        (np.ones(len(graph.first)), (places[graph.first], places[graph.second])), shape=(len(members),) * 2
    )
    count, labels = connected_components(pairs, directed=False)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(count + 1))
    sizes = np.diff(starts)
    for label in np.flatnonzero(sizes > 1):
        component = members[order[starts[label] : starts[label + 1]]]
        if len(component) <= _LARGEST_COMPONENT:
            yield component
            continue
        higher = least * _HIGHER
        kept = (labels[places[graph.first]] == label) & (graph.correlations >= higher)
        yield from _components(Graph(*(part[kept] for part in graph)), component, higher)


def _completed(
    components: Sequence[Numbers], columns: HostArray, signals: HostArray, least: float, tolerance: float
) -> list[Numbers]:
    """Add the variables that components lack, in rounds."""
    growing, done = list(components), list[Numbers]()
    for _ in range(_ROUNDS):
        if not growing:
            break
        rests = _signals(np.column_stack([_rest(columns[:, component], tolerance) for component in growing]))
        correlations = np.abs(rests.T @ signals)
        grown = []
        for component, own in zip(growing, correlations, strict=True):
            own[component] = 0.0
            lacking = np.flatnonzero(own >= least)
            if 0 < len(lacking) <= _LARGEST_COMPONENT - len(component):
                grown.append(np.append(component, lacking))
            else:
                done.append(component)
        growing = grown
    return done + growing


def _rest(columns: HostArray, tolerance: float) -> HostArray:
    """Return what the columns leave over where they cancel best, but do not vanish."""
    lengths = np.linalg.norm(columns, axis=0)
    _, values, vectors = np.linalg.svd(np.linalg.qr(columns / lengths, mode="r"))
    rank = int((values > tolerance * max(values[0], 1.0)).sum())
    rest: HostArray = (columns / lengths) @ vectors[max(rank - 1, 0)]
    return rest
