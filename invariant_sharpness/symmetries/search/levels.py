"""One level of the search: groups of variables that are solved for together, beside what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from invariant_sharpness.symmetries.generators import Generator
from invariant_sharpness.symmetries.scaling_variables import HostArray
from invariant_sharpness.symmetries.search.equations import Equations
from invariant_sharpness.symmetries.search.null_space import solve_null_space
from invariant_sharpness.symmetries.search.overlaps import (
    Overlap,
    VariableGroup,
    find_overlaps,
    mean_exponents,
    trivial_directions,
)
from invariant_sharpness.symmetries.search.sparse_basis import Quotient, sparse_generators

_COLUMNS_COST = 1e-3
"""Where a row and a column are equivalent, as in a depthwise kernel, the row is named."""


class Tolerances(NamedTuple):
    """What counts as rounding.

    Parameters
    ----------
    zero
        Singular values below this count as zero, relative to that of a column with entries of size 1.
    fraction
        Exponents within this of a fraction of small denominator are rounded to it.
    """

    zero: float
    fraction: float


class Level(NamedTuple):
    """Groups that are searched together, and the sparse vectors that were found: one exponent per group in each.

    Parameters
    ----------
    groups
        The groups of which a variable acts.
    overlaps
        Their overlaps.
    costs
        The fraction of the variables of its axis that a group has.
    trivial
        The trivial directions, as columns.
    vectors
        The symmetries of the groups beside those that were known.
    gap
        The gap of the null space.
    """

    groups: list[VariableGroup]
    overlaps: list[Overlap]
    costs: HostArray
    trivial: HostArray
    vectors: list[HostArray]
    gap: float


def solve_level(
    equations: Equations, groups: Sequence[VariableGroup], tolerances: Tolerances, known: Sequence[Generator] = ()
) -> Level:
    """Find what rescales the groups and is independent of the generators that are known, and of trivial directions."""
    present = [group for group in groups if equations.acting[group].any()]
    sizes = equations.group_sizes(present)[:, None]
    found, costs = find_overlaps(equations, present), costs_of(equations, present)
    trivial = trivial_directions(found, len(present))
    held = np.concatenate([trivial, _known_vectors(equations, present, known)], axis=1)
    space = solve_null_space(equations.scaled_columns(present), tolerances.zero, held * sizes)
    level = Level(present, found, costs, trivial, [], space.gap)
    if not space.basis.shape[1]:
        return level
    basis = space.basis / sizes
    basis = np.concatenate([basis / np.abs(basis).max(axis=0), held], axis=1)
    quotient = Quotient(basis, held, mean_exponents(found, len(present)), costs)
    return level._replace(vectors=sparse_generators(quotient, tolerances.fraction))


def generator_of(equations: Equations, groups: Sequence[VariableGroup], vector: HostArray) -> Generator:
    """Make a generator of a vector. Variables that do not act take no part; the first one that does goes up."""
    acting = equations.acting
    chosen = [(group, exponent) for group, exponent in zip(groups, vector, strict=True) if exponent]
    exponents = {int(number): float(exponent) for group, exponent in chosen for number in group[acting[group]]}
    sign = np.sign(exponents[min(exponents)])
    return Generator(equations.variables, {number: float(sign * exponent) for number, exponent in exponents.items()})


def costs_of(equations: Equations, groups: Sequence[VariableGroup]) -> HostArray:
    """Compute the fraction of the variables of its axis that a group has."""
    acting, variables = equations.acting, equations.variables
    on_axis = np.bincount(variables.axis_of[acting], minlength=len(variables.axes))
    parts = [acting[group].sum() / on_axis[variables.axis_of[group[0]]] for group in groups]
    return np.array(parts) * [1 + _COLUMNS_COST * (not variables.on_first_axis(int(g[0]))) for g in groups]


def _known_vectors(equations: Equations, groups: Sequence[VariableGroup], known: Sequence[Generator]) -> HostArray:
    """Write known generators as vectors of exponents of the groups: each by itself, or those of one kind that cover groups together."""
    group_of = np.full(len(equations.variables), -1)
    for number, group in enumerate(groups):
        group_of[group[equations.acting[group]]] = number
    counts = np.bincount(group_of[group_of >= 0], minlength=len(groups))
    kinds: dict[object, list[dict[int, float]]] = {}
    for generator in known:
        kinds.setdefault(generator.signature, []).append(dict(generator.exponents))
    together = [exponents for kind in kinds.values() for exponents in _covering(kind, group_of)]
    vectors = [vector for exponents in together if (vector := _vector(exponents, group_of, counts)) is not None]
    return np.array(vectors).reshape(len(vectors), len(groups)).T


def _covering(kind: Sequence[dict[int, float]], group_of: VariableGroup) -> list[dict[int, float]]:
    """Add up the exponents of generators that share groups."""
    numbers = np.array([(k, group_of[variable]) for k, exponents in enumerate(kind) for variable in exponents])
    count = len(kind) + int(group_of.max()) + 2
    graph = coo_array((np.ones(len(numbers)), (numbers[:, 0], len(kind) + 1 + numbers[:, 1])), shape=(count, count))
    labels = connected_components(graph, directed=False)[1][: len(kind)]
    sums: dict[int, dict[int, float]] = {}
    for label, exponents in zip(labels.tolist(), kind, strict=True):
        total = sums.setdefault(label, {})
        for variable, exponent in exponents.items():
            total[variable] = total.get(variable, 0.0) + exponent
    return list(sums.values())


def _vector(exponents: dict[int, float], group_of: VariableGroup, counts: VariableGroup) -> HostArray | None:
    """Return the one exponent of each group; None if a group has several, or is not among the groups."""
    own = group_of[list(exponents)]
    if (own < 0).any():
        return None
    values = np.array(list(exponents.values()))
    vector = np.bincount(own, weights=values, minlength=len(counts)) / counts
    return (
        vector
        if np.allclose(vector[own], values) and (np.bincount(own, minlength=len(counts))[own] == counts[own]).all()
        else None
    )
