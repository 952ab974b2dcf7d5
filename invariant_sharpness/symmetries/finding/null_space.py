"""The numerical null space of a system of equations, and how clearly it stands out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from invariant_sharpness.symmetries.sides import HostArray


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
