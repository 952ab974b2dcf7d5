r"""The numerical null space of a system of equations, and how clearly it stands out.

Exponents are simple fractions: rounding is taken off them.

The sparsest generators of a null space, so that each can be read.

A vector z of exponents, one per row and per column, says the same as z plus a *redundant* vector: the rows of a matrix up and
its columns down by as much, which leaves every entry where it is. So the basis that is wanted is that of a
quotient, and each of its vectors shall touch as few rows and columns as it can:

.. math:: \\min_z \\lVert z \rVert_1 \\quad\text{for z in the null space, with the entries of one row or column moving by 1 on average.}

The side condition does not see redundant vectors, and the sum of magnitudes leaves out what is not needed. A linear program.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import block_array, coo_array, eye_array

from invariant_sharpness.symmetries.units import HostArray


class NullSpace(NamedTuple):
    """Vectors that a matrix maps to zero up to rounding.

    Parameters
    ----------
    basis
        Orthonormal columns.
    gap
        The least singular value that was counted as nonzero, over the largest that was counted as zero, or over rounding.
    """

    basis: HostArray
    gap: float

    @property
    def dimension(self) -> int:
        """Number of independent vectors."""
        return self.basis.shape[1]


def null_space(matrix: HostArray, tolerance: float) -> NullSpace:
    """By singular values; those are zero that are below ``tolerance`` times the largest, or times that of a column with entries of size 1."""
    rows, columns = matrix.shape
    if not columns:
        return NullSpace(np.zeros((0, 0)), np.inf)
    triangle = np.linalg.qr(matrix, mode="r") if rows > columns else matrix
    _, values, transposed = np.linalg.svd(triangle, full_matrices=True)
    values = np.concatenate([values, np.zeros(columns - len(values))])
    scale = max(values[0], rows**0.5)
    rank = int(np.sum(values > tolerance * scale))
    least = values[rank - 1] if rank else scale
    largest = values[rank] if rank < columns else 0.0
    rounding = np.finfo(np.float64).eps * scale
    return NullSpace(transposed[rank:].T, float(least / max(largest, rounding)))


def reduced_rows(vectors: HostArray) -> HostArray:
    """Reduced echelon form of the rows, with the largest pivots that there are."""
    rows = np.array(vectors)
    free = list(range(len(rows)))
    while free:
        block = np.abs(rows[free])
        number, pivot = np.unravel_index(int(np.argmax(block)), block.shape)
        row = free.pop(int(number))
        if rows[row, pivot] == 0:
            break
        rows[row] /= rows[row, pivot]
        others = [k for k in range(len(rows)) if k != row]
        rows[others] -= np.outer(rows[others, pivot], rows[row])
    return rows


_LARGEST_DENOMINATOR = 12
_FRACTIONS = np.unique([p / q for q in range(1, _LARGEST_DENOMINATOR + 1) for p in range(-q, q + 1)])


def simple_fractions(rows: HostArray, tolerance: float) -> HostArray:
    """Each row with its largest entry at 1 or -1; what is within ``tolerance`` of a fraction of small denominator is that fraction."""
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    scaled = rows / np.where(largest == 0, 1.0, largest)
    above = np.searchsorted(_FRACTIONS, scaled).clip(1, len(_FRACTIONS) - 1)
    lower, upper = _FRACTIONS[above - 1], _FRACTIONS[above]
    nearest = np.where(scaled - lower < upper - scaled, lower, upper)
    return np.where(np.abs(scaled - nearest) < tolerance, nearest, scaled)


_TOLERANCE = 1e-6
"""That of a linear program; the basis that it is given is free of rounding."""


class Quotient(NamedTuple):
    """A null space, and what in it says nothing.

    Parameters
    ----------
    basis
        Its vectors as columns.
    redundant
        Those that move no entry, as columns.
    movements
        One row per variable: how much the entries of this variable move, on average.
    costs
        What a unit of each variable counts.
    """

    basis: HostArray
    redundant: HostArray
    movements: HostArray
    costs: HostArray

    @property
    def dimension(self) -> int:
        """Number of independent symmetries."""
        return self.basis.shape[1] - self.redundant.shape[1]


def sparse_generators(space: Quotient, tolerance: float) -> list[HostArray]:
    """As many independent vectors as the quotient has dimensions, each with few entries that are not zero.

    Rounding is taken off the basis first: a linear program that sees it makes its entries vanish, and not those that it should.
    """
    if not space.dimension:
        return []
    rows = simple_fractions(reduced_rows(space.basis.T), tolerance**0.5)
    if not space.redundant.shape[1] and _disjoint(rows):
        return list(rows)
    exact = space._replace(basis=rows.T)
    bounds = _bounds(exact)
    candidates = [vector for functional in _functionals(exact) for vector in _sparsest(exact, bounds, functional)]
    candidates.sort(key=lambda vector: float((vector != 0) @ space.costs))
    return _first_independent([*candidates, *rows], exact)


def _first_independent(candidates: list[HostArray], space: Quotient) -> list[HostArray]:
    """The first vectors that are independent, also of redundant ones: the sparsest basis that the candidates have."""
    chosen: list[HostArray] = []
    frame = np.linalg.qr(space.redundant)[0]
    for vector in candidates:
        rest = vector - frame @ (frame.T @ vector)
        rest -= frame @ (frame.T @ rest)
        size = float(np.linalg.norm(rest))
        if size > _TOLERANCE * np.linalg.norm(vector):
            chosen.append(vector)
            frame = np.column_stack([frame, rest / size])
        if len(chosen) == space.dimension:
            break
    return chosen


def _functionals(space: Quotient) -> list[HostArray]:
    """How the basis moves each variable; those that agree up to a factor ask the same question, once."""
    functionals = space.movements @ space.basis
    sizes = np.linalg.norm(functionals, axis=1, keepdims=True)
    directions = functionals[sizes[:, 0] > _TOLERANCE] / sizes[sizes > _TOLERANCE][:, None]
    alike = np.abs(np.abs(directions @ directions.T) - 1) < _TOLERANCE
    return [direction for number, direction in enumerate(directions) if not alike[number, :number].any()]


def _bounds(space: Quotient) -> Any:
    """Entries of the vector are at most their magnitudes, and so are their negatives."""
    basis, magnitudes = coo_array(space.basis), eye_array(len(space.basis))
    return block_array([[basis, -magnitudes], [-basis, -magnitudes]], format="csc")


def _sparsest(space: Quotient, bounds: Any, functional: HostArray) -> Iterator[HostArray]:
    """The vector of least sum of magnitudes on which the functional is 1."""
    count, dimension = space.basis.shape
    found = linprog(
        np.concatenate([np.zeros(dimension), space.costs]),
        A_ub=bounds,
        b_ub=np.zeros(2 * count),
        A_eq=np.concatenate([functional, np.zeros(count)])[None, :],
        b_eq=[1.0],
        bounds=[(None, None)] * dimension + [(0, None)] * count,
        method="highs",
    )
    if found.x is not None:
        yield simple_fractions((space.basis @ found.x[:dimension])[None], _TOLERANCE)[0]


def _disjoint(rows: HostArray) -> bool:
    return bool(((rows != 0).sum(axis=0) <= 1).all())
