r"""The sparsest basis of a null space up to trivial directions.

A vector z of exponents, one per row and per column, is equivalent to z plus a *trivial* direction: the rows of a matrix up and its columns
down by as much, which changes no entry. So the basis that is wanted is that of a quotient, and each of its vectors shall have as few rows
and columns as it can, so that it can be read:

.. math:: \min_z \lVert z \rVert_1 \quad\text{for z in the null space, where the entries of one row or column have the mean exponent 1.}

The side condition does not see trivial directions, and the sum of magnitudes leaves out what is not needed. It is a linear program.
Exponents are fractions of small denominators, to which they are rounded (:func:`rationalize`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import block_array, coo_array, eye_array

from invariant_sharpness.symmetries.scaling_variables import HostArray

_LARGEST_DENOMINATOR = 12
_FRACTIONS = np.unique([p / q for q in range(1, _LARGEST_DENOMINATOR + 1) for p in range(-q, q + 1)])

_TOLERANCE = 1e-6
"""The tolerance of a linear program; the basis that it is given is free of rounding."""


def reduced_rows(vectors: HostArray) -> HostArray:
    """Bring the rows to reduced echelon form, with the largest pivots that there are."""
    rows = np.array(vectors)
    free = list(range(len(rows)))
    while free:
        magnitudes = np.abs(rows[free])
        number, pivot = np.unravel_index(int(np.argmax(magnitudes)), magnitudes.shape)
        row = free.pop(int(number))
        if rows[row, pivot] == 0:
            break
        rows[row] /= rows[row, pivot]
        others = [k for k in range(len(rows)) if k != row]
        rows[others] -= np.outer(rows[others, pivot], rows[row])
    return rows


def rationalize(rows: HostArray, tolerance: float) -> HostArray:
    """Scale each row to a largest entry of 1 or -1, and round what is within ``tolerance`` of a fraction of small denominator to it."""
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    scaled = rows / np.where(largest == 0, 1.0, largest)
    above = np.searchsorted(_FRACTIONS, scaled).clip(1, len(_FRACTIONS) - 1)
    lower, upper = _FRACTIONS[above - 1], _FRACTIONS[above]
    nearest = np.where(scaled - lower < upper - scaled, lower, upper)
    return np.where(np.abs(scaled - nearest) < tolerance, nearest, scaled)


class Quotient(NamedTuple):
    """A null space, and the trivial directions in it.

    Parameters
    ----------
    basis
        The vectors of the null space as columns.
    held
        Those of which the generators shall be independent, as columns: trivial directions, and what is known.
    means
        The mean exponent of the entries of each variable, in a row, as a linear function of all exponents.
    costs
        The weight of each variable in the sum of magnitudes.
    """

    basis: HostArray
    held: HostArray
    means: HostArray
    costs: HostArray

    @property
    def dimension(self) -> int:
        """The number of independent symmetries."""
        return self.basis.shape[1] - self.held.shape[1]


def sparse_generators(space: Quotient, fraction: float) -> list[HostArray]:
    """Return as many independent vectors as the quotient has dimensions, each with few entries that are not zero.

    The basis is rationalized first, up to ``fraction``: a linear program that sees rounding makes its entries vanish, and not those that it should.
    """
    if not space.dimension:
        return []
    rows = rationalize(reduced_rows(space.basis.T), fraction)
    if not space.held.shape[1] and _disjoint(rows):
        return list(rows)
    exact = space._replace(basis=rows.T)
    bounds = _bounds(exact)
    candidates = [vector for functional in _functionals(exact) for vector in _sparsest(exact, bounds, functional)]
    candidates.sort(key=lambda vector: float((vector != 0) @ space.costs))
    return _first_independent([*candidates, *rows], exact)


def _first_independent(candidates: list[HostArray], space: Quotient) -> list[HostArray]:
    """Take the first vectors that are independent, also of trivial directions: the sparsest basis that the candidates have."""
    chosen: list[HostArray] = []
    frame = np.linalg.qr(space.held)[0]
    for vector in candidates:
        # Gram-Schmidt, twice.
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
    """List the mean exponents as functionals of the coordinates in the basis; those that agree up to a factor, once."""
    functionals = space.means @ space.basis
    sizes = np.linalg.norm(functionals, axis=1, keepdims=True)
    directions = functionals[sizes[:, 0] > _TOLERANCE] / sizes[sizes > _TOLERANCE][:, None]
    parallel = np.abs(np.abs(directions @ directions.T) - 1) < _TOLERANCE
    return [direction for number, direction in enumerate(directions) if not parallel[number, :number].any()]


def _bounds(space: Quotient) -> Any:
    """Build the constraints that entries of the vector are at most their magnitudes, and so are their negatives."""
    basis, magnitudes = coo_array(space.basis), eye_array(len(space.basis))
    return block_array([[basis, -magnitudes], [-basis, -magnitudes]], format="csc")


def _sparsest(space: Quotient, bounds: Any, functional: HostArray) -> Iterator[HostArray]:
    """Find the vector of least sum of magnitudes on which the functional is 1, by a linear program."""
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
        yield rationalize((space.basis @ found.x[:dimension])[None], _TOLERANCE)[0]


def _disjoint(rows: HostArray) -> bool:
    return bool(((rows != 0).sum(axis=0) <= 1).all())
