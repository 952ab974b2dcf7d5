r"""What is left when all known generators are taken out: nothing, as a rule, and then there are no others.

A vector of the null space is reduced by known generators and trivial directions until it vanishes in their pivots. So the null space *modulo*
what is known is that of the columns which are no pivots:

.. math:: \operatorname{null}(C) / \operatorname{span}(K) \;\cong\; \operatorname{null}(C_{:,\,\text{no pivot}}) .

If these columns have full rank, everything is known. The rank is told by an orthogonal factorization, of which the least singular values follow
by inverse iteration with the triangular factor: two triangular solutions for each step instead of all singular values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import lapack, solve_triangular

from invariant_sharpness.symmetries.scaling_variables import HostArray, Numbers
from invariant_sharpness.symmetries.search.equations import Equations

_BLOCK = 8
_STEPS = 4
_SEED = 0


class Remainder(NamedTuple):
    """The null space modulo what is known.

    Parameters
    ----------
    variables
        The numbers of the variables that act and are no pivots.
    basis
        The null space of their columns, each divided by the size of its variable: orthonormal columns.
    gap
        The least singular value that was counted as nonzero, over the largest that was counted as zero, or over rounding.
    """

    variables: Numbers
    basis: HostArray
    gap: float


def remaining_null_space(equations: Equations, pivots: Numbers, tolerance: float) -> Remainder:
    """Find what solves the equations beyond the known; singular values below ``tolerance``, relative to the largest, count as zero.

    Cost: one orthogonal factorization in place, :math:`2 m n^2 - 2 n^3 / 3` operations for m equations of n unknowns.
    """
    free = equations.acting.copy()
    free[pivots] = False
    variables = np.flatnonzero(free)
    if not len(variables):
        return Remainder(variables, np.zeros((0, 0)), np.inf)
    columns = np.asfortranarray(equations.coefficients[:, variables])
    columns /= equations.sizes[variables]
    triangle = _triangular_factor(columns)
    scale = max(_largest(triangle), len(columns) ** 0.5)
    values, vectors = _smallest(triangle, tolerance * scale)
    zero = values <= tolerance * scale
    rounding = np.finfo(np.float64).eps * scale
    least = float(values[~zero].min(initial=np.inf))
    largest = float(values[zero].max(initial=0.0))
    return Remainder(variables, vectors[:, zero], least / max(largest, rounding))


def _triangular_factor(columns: HostArray) -> HostArray:
    """Factor in place; returns the upper triangle, in which rounding stands where there would be a zero on the diagonal."""
    count = columns.shape[1]
    factored, *_ = lapack.dgeqrf(columns, overwrite_a=True)
    triangle: HostArray = np.triu(factored[:count])
    diagonal = np.diagonal(triangle)
    least = np.finfo(np.float64).eps * np.abs(diagonal).max(initial=0.0)
    np.fill_diagonal(triangle, np.where(np.abs(diagonal) < least, least, diagonal))
    return triangle


def _largest(triangle: HostArray) -> float:
    """Estimate the largest singular value from below, by power iteration."""
    vector = np.random.default_rng(_SEED).normal(size=len(triangle))
    for _ in range(_STEPS):
        vector = triangle.T @ (triangle @ (vector / np.linalg.norm(vector)))
    return float(np.linalg.norm(vector) ** 0.5)


def _smallest(triangle: HostArray, threshold: float) -> tuple[HostArray, HostArray]:
    """Find the least singular values and their right singular vectors: all that are below the threshold, and one above it."""
    count = len(triangle)
    width = min(_BLOCK, count)
    while True:
        vectors = np.random.default_rng(_SEED).normal(size=(count, width))
        for _ in range(_STEPS):
            # Inverse iteration with R^T R.
            vectors = np.linalg.qr(vectors)[0]
            vectors = solve_triangular(triangle, solve_triangular(triangle, vectors, trans="T"))
        vectors = np.linalg.qr(vectors)[0]
        # Ritz values and vectors.
        _, values, rotation = np.linalg.svd(triangle @ vectors, full_matrices=False)
        if width == count or values[0] > threshold:
            return values, vectors @ rotation.T
        width = min(4 * width, count)
