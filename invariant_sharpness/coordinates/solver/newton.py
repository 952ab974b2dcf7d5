"""Newton's method for (17), for blocks whose parts are tied by weak cells only.

The Hessian of the objective is ``sum_ij gamma_ij (dx_i + dy_j)^2``. With the sign of y turned it is the Laplacian of a
bipartite graph; eliminating the longer side leaves a Laplacian on the shorter one, built from its
off-diagonal entries so that nothing cancels. The step gives a feasible dual point for free.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from invariant_sharpness.coordinates.solver.cells import Cells
from invariant_sharpness.coordinates.solver.duality import Iterate, flow_loss, loss_without_flow

Matrix = npt.NDArray[np.float64]

_MOST_STEPS = 200
_LONGEST_MOVE = 2.0
_RIDGE = 1e-13
_MOST_HALVINGS = 40
_NEGLIGIBLE = 1e-14  # share of the value below which all cells together are not worth a step


def minimize_by_newton(cells: Cells, start: Iterate, tolerance: float) -> tuple[Iterate, int]:
    """Damped Newton steps from ``start`` until the certified relative gap is at most ``tolerance``.

    Cost of a step on an m x n matrix, m <= n: m^2 n multiplications and one m x m factorization.
    """
    log_a, log_b = cells.logarithms()
    if log_a.shape[0] > log_a.shape[1]:
        iterate, steps = _descend(log_a.T, log_b.T, start.transposed(), tolerance)
        return iterate.transposed(), steps
    return _descend(log_a, log_b, start, tolerance)


def _descend(log_a: Matrix, log_b: Matrix, start: Iterate, tolerance: float) -> tuple[Iterate, int]:
    x, y = start.x, start.y
    best = start
    for step in range(1, _MOST_STEPS + 1):
        z = x[:, None] + y
        rising, falling = np.exp(log_a + z), np.exp(log_b - z)
        gamma, mu = rising + falling, rising - falling
        value = float(gamma.sum())
        # Rounding of the large cells would drown what the smallest ask for: these carry no flow.
        small = gamma <= _NEGLIGIBLE * value / gamma.size
        gamma[small], mu[small] = 0.0, 0.0
        dx, dy = newton_step(gamma, mu)
        dz = dx[:, None] + dy
        loss = flow_loss(gamma, -gamma * dz) + loss_without_flow(rising[small], falling[small])
        best = Iterate(x, y, value, max(value - loss, best.lower_bound))
        if best.gap <= tolerance:
            break
        length = _line_search(log_a, log_b, z, dz, value, float(np.sum(mu * dz)))
        if length == 0:
            break  # rounding: the value cannot be made smaller
        x, y = x + length * dx, y + length * dy
    return best, step


def newton_step(gamma: Matrix, mu: Matrix) -> tuple[Matrix, Matrix]:
    """Solve the Newton system for ``dx, dy``: all row and column sums of ``mu + gamma (dx_i + dy_j)`` vanish."""
    row_degrees, column_degrees = (np.where(d > 0, d, 1.0) for d in (gamma.sum(axis=1), gamma.sum(axis=0)))
    solve = _laplacian_solver(gamma, row_degrees, column_degrees)
    dx, dy = np.zeros(gamma.shape[0]), np.zeros(gamma.shape[1])
    for _ in range(3):  # one solution, two refinements
        residual = mu + gamma * (dx[:, None] + dy)
        p, q = residual.sum(axis=1), residual.sum(axis=0)
        correction = solve(gamma @ (q / column_degrees) - p)
        dx = dx + correction
        dy = dy - (q + correction @ gamma) / column_degrees
    drift = dx.mean()  # adding to x what is taken from y changes nothing but costs digits
    return dx - drift, dy + drift


def _laplacian_solver(gamma: Matrix, row_degrees: Matrix, column_degrees: Matrix) -> Callable[[Matrix], Matrix]:
    weights = (gamma / column_degrees) @ gamma.T
    np.fill_diagonal(weights, 0.0)
    degrees = weights.sum(axis=1)
    degrees = np.where(degrees > 0, degrees, row_degrees)
    scale = 1 / np.sqrt(degrees)
    laplacian = (np.diag(degrees) - weights) * scale[:, None] * scale
    ridge = _RIDGE
    while True:
        try:
            factor = cho_factor(laplacian + ridge * np.eye(len(scale)), lower=True)
            return lambda rhs: scale * cho_solve(factor, scale * rhs)
        except LinAlgError:
            ridge *= 100


def _line_search(log_a: Matrix, log_b: Matrix, z: Matrix, dz: Matrix, value: float, slope: float) -> float:
    """Length of the step: halved until the objective falls enough, doubled while it falls further.

    The first trial moves z by at most 2. Far from the minimum, on the wall of an exponential, a Newton step is as
    short as 1, however far there is to go.
    """

    def objective(length: float) -> float:
        moved = z + length * dz
        with np.errstate(over="ignore"):
            return float((np.exp(log_a + moved) + np.exp(log_b - moved)).sum())

    length = min(1.0, _LONGEST_MOVE / max(float(np.abs(dz).max()), 1e-300))
    for _ in range(_MOST_HALVINGS):
        reached = objective(length)
        if reached <= value + 1e-4 * length * slope:
            break
        length /= 2
    else:
        return 0.0
    worthwhile = max(1e-3 * (value - reached), 1e-14 * value)
    while (further := objective(2 * length)) < reached - worthwhile:
        length, reached = 2 * length, further
    return length
