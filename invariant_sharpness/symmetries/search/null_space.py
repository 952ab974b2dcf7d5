r"""The numerical null space of the equations, without what is held out of it.

Directions that are known to be in the null space are *held out* by rows of their own: with the columns of N known, the matrix on top of
:math:`N^T` has the other solutions as its null space, those orthogonal to N, and the singular values of the matrix on them. A matrix that has
few solutions beside those that are known needs no decomposition but a triangular one: its smallest singular values follow by inverse
iteration.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import qr, solve_triangular

from invariant_sharpness import prng
from invariant_sharpness.prng import Stream
from invariant_sharpness.symmetries.scaling_variables import HostArray

_FIRST_VECTORS = 8
_ITERATIONS = 4


class NullSpace(NamedTuple):
    """The vectors that a matrix maps to zero up to rounding.

    Parameters
    ----------
    basis
        Orthonormal columns, orthogonal to what was held out.
    gap
        The least singular value that was counted as nonzero, over the largest that was counted as zero, or over rounding.
    """

    basis: HostArray
    gap: float


def solve_null_space(matrix: HostArray, tolerance: float, held: HostArray) -> NullSpace:
    """Compute the null space, but for the columns of ``held``, which are known to be in it.

    Singular values count as zero that are below ``tolerance`` times that of a column with entries of size 1.
    """
    rows, columns = matrix.shape
    if not columns:
        return NullSpace(np.zeros((0, 0)), np.inf)
    scale = rows**0.5
    known = held / np.linalg.norm(held, axis=0)
    missing = np.zeros((columns, max(columns - rows - known.shape[1], 0)))
    # In the order of Fortran, and in place: no copies.
    stacked = np.concatenate([matrix.T, scale * known, missing], axis=1).T
    triangle = np.asfortranarray(
        qr(stacked, mode="r", overwrite_a=True, check_finite=False)[0][:columns], dtype=np.float64
    )
    rounding = float(np.finfo(np.float64).eps * scale)
    values, vectors = _smallest(triangle, tolerance * scale, rounding)
    # The gap between the values that count as zero, with those of what is held out, and all others.
    count = int(np.sum(values <= tolerance * scale))
    zeros = [*values[:count], *np.linalg.norm(matrix @ known, axis=0), rounding]
    least = values[count] if count < columns else scale
    return NullSpace(vectors[:, :count], float(least / max(zeros)))


def _smallest(triangle: HostArray, zero: float, rounding: float) -> tuple[HostArray, HostArray]:
    """Compute singular values from the smallest one up to the first above ``zero``, and their right singular vectors, by subspace iteration."""
    count, diagonal = len(triangle), np.diag(triangle)
    np.fill_diagonal(triangle, np.where(np.abs(diagonal) < rounding, rounding, diagonal))
    width = min(_FIRST_VECTORS, count)
    while True:
        start = prng.normal_values(0, Stream.SYMMETRY_ITERATIONS, 0, count * width).reshape(count, width)
        vectors = np.linalg.qr(start)[0]
        for _ in range(_ITERATIONS if width < count else 0):
            backward = solve_triangular(triangle, vectors, trans="T", check_finite=False)
            vectors = np.linalg.qr(solve_triangular(triangle, backward, check_finite=False))[0]
        # Rayleigh-Ritz.
        _, values, rotation = np.linalg.svd(triangle @ vectors, full_matrices=False)
        if values[0] > zero or width == count:
            return values[::-1], (vectors @ rotation.T)[:, ::-1]
        width = min(4 * width, count)
