"""Newton's method for (17), for components whose parts are tied by weak cells only.

The Hessian of the objective is ``sum_ij gamma_ij (dx_i + dy_j)^2``. With the sign of y turned it is the Laplacian of a
bipartite graph; eliminating the longer side leaves a Laplacian on the shorter one, built from its
off-diagonal entries so that nothing cancels. The step gives a feasible dual point for free.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse.csgraph import connected_components

from invariant_sharpness.solvers.rows_columns.duality import Cells, Iterate, exact_losses, quadratic_losses

Matrix = npt.NDArray[np.float64]

_MAX_STEPS = 200
_MAX_HALVINGS = 40
_LONGEST_MOVE = 2.0
_RIDGE = 1e-13
_ROUNDING = 1e-16
_NEGLIGIBLE = 1e-13  # of the value, shared equally by all cells


def minimize_by_newton(cells: Cells, start: Iterate, tolerance: float) -> tuple[Iterate, int]:
    """Take damped Newton steps from ``start`` until the relative gap is at most ``tolerance``.

    Cost of a step on an m x n matrix, m <= n: m^2 n multiplications and one m x m factorization.
    """
    log_a, log_b = cells.logarithms()
    if log_a.shape[0] > log_a.shape[1]:
        iterate, steps = _descend(log_a.T, log_b.T, start.transposed(), tolerance)
        return iterate.transposed(), steps
    return _descend(log_a, log_b, start, tolerance)


def _descend(log_a: Matrix, log_b: Matrix, start: Iterate, tolerance: float) -> tuple[Iterate, int]:
    iterate, x, y = start, start.x, start.y
    previous = np.inf
    for step in range(1, _MAX_STEPS + 1):
        # The cells at this point, the Newton step, and the bound of its flow.
        z = x[:, None] + y
        rising, falling = np.exp(log_a + z), np.exp(log_b - z)
        dx, dy, loss = _step_and_loss(rising, falling)
        value = float(rising.sum() + falling.sum())
        iterate = Iterate(x, y, value, loss)
        # Stop at the gap, or where the decrement is rounding.
        dz = dx[:, None] + dy
        slope = float(np.sum((rising - falling) * dz))
        at_rounding = -slope <= _ROUNDING * value and -slope > 0.5 * previous
        if iterate.gap <= tolerance or at_rounding:
            return iterate, step
        length = _line_search(log_a, log_b, z, dz, value, slope)
        if length == 0:  # rounding: the value cannot be made smaller
            return iterate, step
        x, y = x + length * dx, y + length * dy
        previous = -slope
    return iterate, _MAX_STEPS


def _step_and_loss(rising: Matrix, falling: Matrix) -> tuple[Matrix, Matrix, float]:
    """Compute the Newton step, and how far below the value the bound of its flow lies.

    Cells smaller than the rounding of the others carry no flow, since what they ask for is noise; nor do
    cells of a negligible part of the value that cannot carry what the step asks of them.
    """
    gamma, mu = rising + falling, rising - falling
    fraction = gamma * (gamma.size / gamma.sum())
    carries = fraction > _ROUNDING
    while True:
        # Newton step of the cells that carry flow.
        flowing = np.where(carries, gamma, 0.0)
        dx, dy = newton_step(flowing, np.where(carries, mu, 0.0))
        dz = dx[:, None] + dy
        # What each cell costs the bound: in closed form near its minimum, exactly elsewhere.
        flow = np.where(carries, mu + gamma * dz, 0.0)
        near = carries & (np.abs(dz) < 0.5)
        losses = quadratic_losses(gamma, gamma * dz)
        losses[~near] = exact_losses(rising[~near], falling[~near], flow[~near])
        # Without the cells that cannot carry their flow, once more.
        overloaded = carries & np.isinf(losses) & (fraction <= _NEGLIGIBLE)
        if not overloaded.any():
            return dx, dy, float(losses.sum()) if _is_conserved(flow, gamma) else np.inf
        carries &= ~overloaded


def _is_conserved(flow: Matrix, gamma: Matrix) -> bool:
    """Say whether all row and column sums vanish, up to rounding: without that there is no bound."""
    imbalance = np.abs(flow.sum(axis=0)).sum() + np.abs(flow.sum(axis=1)).sum()
    return bool(imbalance <= 100 * _ROUNDING * gamma.sum())


def newton_step(gamma: Matrix, mu: Matrix) -> tuple[Matrix, Matrix]:
    """Solve the Newton system for ``dx, dy``: all row and column sums of ``mu + gamma (dx_i + dy_j)`` vanish."""
    # Schur complement of the rows: a Laplacian, given by its off-diagonal weights.
    row_degrees, column_degrees = (np.where(d > 0, d, 1.0) for d in (gamma.sum(axis=1), gamma.sum(axis=0)))
    weights = (gamma / column_degrees) @ gamma.T
    solve = _laplacian_solver(weights, row_degrees)
    # One solution and two refinements.
    dx, dy = np.zeros(gamma.shape[0]), np.zeros(gamma.shape[1])
    for _ in range(3):
        residual = mu + gamma * (dx[:, None] + dy)
        p, q = residual.sum(axis=1), residual.sum(axis=0)
        dx = _centered(dx + solve(gamma @ (q / column_degrees) - p), weights)
        dy = -(mu.sum(axis=0) + dx @ gamma) / column_degrees
    return dx, dy


def _centered(dx: Matrix, weights: Matrix) -> Matrix:
    """Subtract the mean of each connected part: to add to x what is taken from y changes nothing but costs digits."""
    _, part = connected_components(weights > 0, directed=False)
    drift = np.bincount(part, dx) / np.bincount(part)
    return dx - drift[part]


def _laplacian_solver(weights: Matrix, row_degrees: Matrix) -> Callable[[Matrix], Matrix]:
    """Factorize the Laplacian of these weights, scaled to a unit diagonal, with the least ridge that makes it positive definite."""
    weights = weights - np.diag(np.diag(weights))
    degrees = weights.sum(axis=1)
    degrees = np.where(degrees > 0, degrees, row_degrees)
    # Unit diagonal.
    scale = 1 / np.sqrt(degrees)
    laplacian = (np.diag(degrees) - weights) * scale[:, None] * scale
    # Cholesky factorization, with more ridge until it succeeds.
    ridge = _RIDGE
    while True:
        try:
            factor = cho_factor(laplacian + ridge * np.eye(len(scale)), lower=True)
            return lambda rhs: scale * cho_solve(factor, scale * rhs)
        except LinAlgError:
            ridge *= 100


def _line_search(log_a: Matrix, log_b: Matrix, z: Matrix, dz: Matrix, value: float, slope: float) -> float:
    """Find the length of the step: halved until the objective falls enough, doubled while it falls further.

    The first length moves z by at most 2. Far from the minimum, on the wall of an exponential, a Newton step is as
    short as 1, however far there is to go.
    """

    def objective(length: float) -> float:
        moved = z + length * dz
        with np.errstate(over="ignore"):
            return float((np.exp(log_a + moved) + np.exp(log_b - moved)).sum())

    # Armijo backtracking from a bounded first step.
    rounding = 4 * _ROUNDING * (1 + float(np.abs(z).max())) * value
    length = min(1.0, _LONGEST_MOVE / max(float(np.abs(dz).max()), 1e-300))
    for _ in range(_MAX_HALVINGS):
        reached = objective(length)
        if reached <= value + rounding + 1e-4 * length * slope:
            break
        length /= 2
    else:
        return 0.0
    # Doubling, while it is worth another look.
    worthwhile = max(1e-3 * (value - reached), 10 * rounding)
    while (further := objective(2 * length)) < reached - worthwhile:
        length, reached = 2 * length, further
    return length
