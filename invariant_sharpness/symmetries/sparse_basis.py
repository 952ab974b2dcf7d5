r"""The sparsest generators of a null space, so that each can be read.

A vector z of exponents, one per row and per column, says the same as z plus a *redundant* vector: the rows of a matrix up and
its columns down by as much, which leaves every entry where it is. So the basis that is wanted is that of a
quotient, and each of its vectors shall touch as few rows and columns as it can:

.. math:: \min_z \lVert z \rVert_1 \quad\text{for z in the null space, with the entries of one row or column moving by 1 on average.}

The side condition does not see redundant vectors, and the sum of magnitudes leaves out what is not needed. A linear program.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

from invariant_sharpness.symmetries.null_space import reduced_rows
from invariant_sharpness.symmetries.sides import HostArray

_DENOMINATOR = 12


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
    """As many independent vectors as the quotient has dimensions, each with few entries that are not zero."""
    if not space.dimension:
        return []
    rows = _snapped(reduced_rows(space.basis.T), tolerance)
    if not space.redundant.shape[1] and _disjoint(rows):
        return list(rows)
    candidates = [
        vector for functional in _functionals(space, tolerance) for vector in _sparsest(space, functional, tolerance)
    ]
    candidates.sort(key=lambda vector: float(np.abs(vector) @ space.costs))
    return _first_independent([*candidates, *rows], space, tolerance)


def _first_independent(candidates: list[HostArray], space: Quotient, tolerance: float) -> list[HostArray]:
    """The first vectors that are independent, also of redundant ones: the sparsest basis that the candidates have."""
    chosen: list[HostArray] = []
    frame = np.linalg.qr(space.redundant)[0]
    for vector in candidates:
        rest = vector - frame @ (frame.T @ vector)
        rest -= frame @ (frame.T @ rest)
        size = float(np.linalg.norm(rest))
        if size > tolerance**0.5 * np.linalg.norm(vector):
            chosen.append(vector)
            frame = np.column_stack([frame, rest / size])
        if len(chosen) == space.dimension:
            break
    return chosen


def _functionals(space: Quotient, tolerance: float) -> list[HostArray]:
    """How the basis moves each variable; those that agree up to a factor ask the same question, once."""
    distinct: list[HostArray] = []
    for functional in space.movements @ space.basis:
        size = float(np.linalg.norm(functional))
        if size > tolerance:
            direction = functional / size
            if all(abs(abs(direction @ other) - 1) > tolerance for other in distinct):
                distinct.append(direction)
    return distinct


def _sparsest(space: Quotient, functional: HostArray, tolerance: float) -> Iterator[HostArray]:
    """The vector of least sum of magnitudes on which the functional is 1."""
    count, dimension = space.basis.shape
    bounded = np.eye(count)
    found = linprog(
        np.concatenate([np.zeros(dimension), space.costs]),
        A_ub=np.block([[space.basis, -bounded], [-space.basis, -bounded]]),
        b_ub=np.zeros(2 * count),
        A_eq=np.concatenate([functional, np.zeros(count)])[None, :],
        b_eq=[1.0],
        bounds=[(None, None)] * dimension + [(0, None)] * count,
        method="highs",
    )
    if found.x is not None:
        yield _snapped((space.basis @ found.x[:dimension])[None], tolerance)[0]


def _snapped(rows: HostArray, tolerance: float) -> HostArray:
    """Largest entry 1; what is nearly a simple fraction is one."""
    largest = rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)]
    rows = rows / np.where(largest == 0, 1.0, np.abs(largest))[:, None]
    near = np.round(rows * _DENOMINATOR) / _DENOMINATOR
    return np.where(np.abs(rows - near) < tolerance**0.5, near, rows)


def _disjoint(rows: HostArray) -> bool:
    return bool(((rows != 0).sum(axis=0) <= 1).all())
