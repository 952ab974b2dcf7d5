r"""What Lanczos' method knows of a measure: quadrature rules, and how far they can be off.

k steps from a unit vector u give the tridiagonal matrix T of k rows and its coupling :math:`\beta` to the next. They fix the first
2 k moments of the measure that u sees, whose integrals are :math:`u^T f(H) u`. The eigenvalues of T and the squares of the
first entries of its eigenvectors are the nodes and weights of the Gauss rule.

T with one more row, the coupling :math:`\beta` and any last entry on the diagonal gives a rule of k + 1 nodes with the same moments,
and all such rules are given in this way. Of all measures with these moments, those with the largest and the smallest integral
of an f with one kink between linear pieces, such as :math:`|\lambda|`, are among them: so they bracket the true integral. For other
functions they are a gauge; for a smooth one they hardly differ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from invariant_sharpness.estimators.bases import HostArray

_RULES = 24
"""Number of rules with one more node that are tried on each side of the kink."""


class Projection(NamedTuple):
    """The matrix T and its coupling to the next direction, zero if there is none."""

    matrix: HostArray
    coupling: float


class GaussRule(NamedTuple):
    r"""Nodes :math:`\theta_k` and weights :math:`w_k` with :math:`\sum_k w_k f(\theta_k) \approx u^T f(H) u`."""

    nodes: HostArray
    weights: HostArray


def gauss_rule(matrix: HostArray) -> GaussRule:
    """The rule that a tridiagonal matrix stands for."""
    nodes, vectors = np.linalg.eigh(matrix)
    return GaussRule(nodes, vectors[0] ** 2)


def rules_with_the_same_moments(projection: Projection, kink: float) -> list[GaussRule]:
    """The Gauss rule and others with one more node, among them the one that has a node at the kink."""
    T, coupling = projection
    if coupling == 0:
        return [gauss_rule(T)]
    return [gauss_rule(T), *(gauss_rule(_extended(T, coupling, last)) for last in _last_entries(T, coupling, kink))]


def _last_entries(matrix: HostArray, coupling: float, kink: float) -> HostArray:
    r"""Last entries that make nodes between the neighbours of the kink, where every rule has one (Golub 1973)."""
    # the nodes and their neighbours far away
    nodes, vectors = np.linalg.eigh(matrix)
    low, high = min(nodes[0], kink), max(nodes[-1], kink)
    reach = 2 * (coupling + high - low)
    neighbours = np.concatenate([[low - reach], nodes, [high + reach]])
    above = int(np.searchsorted(neighbours, kink, side="right"))
    # nodes to prescribe: on both sides of the kink up to its neighbours, and the kink itself
    fractions = (1 - np.cos(np.pi * (np.arange(_RULES) + 0.5) / _RULES)) / 2  # close together at both ends
    sides = [kink + (neighbours[side] - kink) * fractions for side in (above - 1, above)]
    prescribed = np.concatenate([*sides, [kink]])
    # the last entry for each, from the secular equation; a node that is there already cannot be prescribed
    distances = nodes - prescribed[:, None]
    apart = (distances != 0).all(axis=1)
    return prescribed[apart] + coupling**2 * np.sum(vectors[-1] ** 2 / distances[apart], axis=1)


def _extended(matrix: HostArray, coupling: float, last: float) -> HostArray:
    size = len(matrix)
    result = np.zeros((size + 1, size + 1))
    result[:size, :size] = matrix
    result[size, size - 1] = result[size - 1, size] = coupling
    result[size, size] = last
    return result
