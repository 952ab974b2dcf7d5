r"""Alternating minimization of (17): each half sweep is exact and in closed form.

For fixed y the best row scale is :math:`e^{2 x_i} = \sum_j b_{ij} e^{-y_j} / \sum_j a_{ij} e^{y_j}`, and likewise for the columns.
With u = e^x and v = e^y the sums are matrix-vector products.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from invariant_sharpness.solvers.rows_columns.duality import Cells, Iterate, quadratic_losses, rank_one_flow

Matrix = npt.NDArray[np.float64]

_MAX_SWEEPS = 40


def alternate(cells: Cells, tolerance: float) -> tuple[Iterate, int]:
    """Sweep until the relative gap is at most ``tolerance``, or progress is slow.

    Cost: four matrix-vector products a sweep, and one more look at the matrix for the bound.
    """
    if cells.have_linear_range:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            iterate, sweeps = _alternate(*cells.linear(), tolerance)
        if np.isfinite(iterate.value):
            return iterate, sweeps
    return _alternate_in_logarithms(*cells.logarithms(), tolerance)


def _alternate(a: Matrix, b: Matrix, tolerance: float) -> tuple[Iterate, int]:
    u = np.ones(a.shape[0])
    v = np.sqrt(b.sum(axis=0) / a.sum(axis=0))
    value = previous = np.inf
    sweep = 0
    for sweep in range(1, _MAX_SWEEPS + 1):
        # Best rows, then best columns.
        u = np.sqrt((b @ (1 / v)) / (a @ v))
        v = np.sqrt(((1 / u) @ b) / (u @ a))
        # Value, and the gap that the imbalance of the rows lets expect.
        rising, falling = u * (a @ v), (b @ (1 / v)) / u
        value = float(rising.sum() + falling.sum())
        expected = float(np.sum((rising - falling) ** 2 / (rising + falling))) / value
        if expected <= tolerance / 4:
            iterate = _bounded(a, b, u, v, value, rising - falling)
            if iterate.gap <= tolerance:
                return iterate, sweep
        if expected > 0.5 * previous and sweep > 4:
            break  # a linear rate this slow is left to Newton
        previous = expected
    return Iterate(np.log(u), np.log(v), value, np.inf), sweep


def _bounded(a: Matrix, b: Matrix, u: Matrix, v: Matrix, value: float, row_sums: Matrix) -> Iterate:
    """Bound a point after a column update: all column sums of mu vanish, and a rank-one flow removes the row sums."""
    scale = u[:, None] * v[None, :]
    gamma = a * scale + b / scale
    loss = float(quadratic_losses(gamma, rank_one_flow(gamma, row_sums)).sum())
    return Iterate(np.log(u), np.log(v), value, loss)


def _alternate_in_logarithms(log_a: Matrix, log_b: Matrix, tolerance: float) -> tuple[Iterate, int]:
    """Sweep in logarithms, for entries of a range that products of scales would overflow."""
    x = np.zeros(log_a.shape[0])
    y = 0.5 * (logsumexp(log_b, axis=0) - logsumexp(log_a, axis=0))
    value, sweep = np.inf, 0
    for sweep in range(1, _MAX_SWEEPS + 1):
        # Best rows, then best columns.
        x = 0.5 * (logsumexp(log_b - y, axis=1) - logsumexp(log_a + y, axis=1))
        y = 0.5 * (logsumexp(log_b - x[:, None], axis=0) - logsumexp(log_a + x[:, None], axis=0))
        # Value and bound.
        z = x[:, None] + y
        rising, falling = np.exp(log_a + z), np.exp(log_b - z)
        value = float(rising.sum() + falling.sum())
        gamma = rising + falling
        loss = float(quadratic_losses(gamma, rank_one_flow(gamma, (rising - falling).sum(axis=1))).sum())
        if loss <= tolerance * value:
            return Iterate(x, y, value, loss), sweep
    return Iterate(x, y, value, np.inf), sweep
