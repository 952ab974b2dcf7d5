"""Matrices for the tests of the solver of (17), some of known infimum, and what SciPy finds."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from invariant_sharpness.solvers.rows_columns import RowColumnSolution

Array = Any


def objective(a: Array, b: Array, x: Array, y: Array) -> float:
    """(17) at the scales exp(x), exp(y), as it is printed."""
    z = x[:, None] + y[None, :]
    return float((a * np.exp(z) + b * np.exp(-z)).sum())


def log_objective(a: Array, b: Array) -> Any:
    """The logarithm of (17) and its gradient in (x, y), a convex function that no range of values can spoil."""
    with np.errstate(divide="ignore"):
        log_a, log_b = np.log(a), np.log(b)

    def function(point: Array) -> tuple[float, Array]:
        z = point[: len(a), None] + point[None, len(a) :]
        logarithm = float(logsumexp([log_a + z, log_b - z]))
        slopes = np.exp(log_a + z - logarithm) - np.exp(log_b - z - logarithm)
        return logarithm, np.concatenate([slopes.sum(axis=1), slopes.sum(axis=0)])

    return function


def scipy_minimum(a: Array, b: Array, start: Array) -> float:
    """The least value that BFGS and L-BFGS find."""
    function = log_objective(a, b)
    options = {"L-BFGS-B": {"maxiter": 2000, "ftol": 0, "gtol": 1e-12}, "BFGS": {"maxiter": 500, "gtol": 1e-12}}
    with np.errstate(over="ignore", invalid="ignore"):  # the points run off where the infimum is zero
        found = [minimize(function, start, jac=True, method=name, options=o) for name, o in options.items()]
    return float(np.exp(np.nanmin([result.fun for result in found])))


def random_matrices(rng: np.random.Generator, decades: float, *, largest: int = 8, density: float = 1.0) -> Array:
    """Curvatures and squared weights spread over ``2 * decades`` powers of ten."""
    shape = (2, *rng.integers(1, largest + 1, 2))
    return 10 ** rng.uniform(-decades, decades, shape) * (rng.random(shape) < density)


def known_infimum(rng: np.random.Generator, clusters: int, weakest: float, spread: float) -> tuple[Array, Array, float]:
    """Matrices made from their minimizer z and a circulation mu: the infimum is the sum of gamma.

    Clusters of rows and columns are tied to each other by cells that are down to ``10**weakest`` as large.
    """
    shape = tuple(rng.integers(2, 13, 2))
    row, column = (rng.integers(0, clusters, n) for n in shape)
    ties = 10 ** rng.uniform(weakest, weakest / 3, (clusters, clusters))
    np.fill_diagonal(ties, 1.0)
    gamma = ties[row][:, column] * rng.uniform(0.5, 1, shape)
    mu = np.zeros(shape)
    for _ in range(4 * gamma.size):
        (i, k), (j, m) = rng.integers(0, shape[0], 2), rng.integers(0, shape[1], 2)
        cells = ([i, k, i, k], [j, m, m, j])
        flow = rng.uniform(-0.2, 0.2) * gamma[cells].min() * np.array([1, 1, -1, -1])
        if i != k and j != m and (np.abs(mu[cells] + flow) < 0.9 * gamma[cells]).all():
            mu[cells] += flow
    offset = rng.uniform(-spread, spread, (2, clusters))
    z = (offset[0, row] + rng.normal(size=shape[0]))[:, None] + offset[1, column] + rng.normal(size=shape[1])
    return (gamma + mu) / 2 * np.exp(-z), (gamma - mu) / 2 * np.exp(z), float(gamma.sum())


def cycle(rng: np.random.Generator, size: int, decades: float) -> tuple[Array, Array, float]:
    """One cycle of one-sided cells, whose infimum is ``2 n`` times the geometric mean of its cells."""
    rising, falling = 10 ** rng.uniform(-decades, decades, (2, size))
    mean = np.exp((np.log(rising).sum() + np.log(falling).sum()) / (2 * size))
    return np.diag(rising), np.roll(np.diag(falling), 1, axis=1), float(2 * size * mean)


def layer(seed: int, rows: int, columns: int) -> tuple[Array, Array]:
    """What a trained layer looks like: curvature of rank near one, normal weights."""
    rng = np.random.default_rng(seed)
    rank_one = rng.exponential(size=(rows, 1)) * rng.exponential(size=columns)
    return rank_one * rng.exponential(size=(rows, columns)), 0.01 * rng.normal(size=(rows, columns)) ** 2


def assert_certified(solution: RowColumnSolution, tolerance: float, what: str) -> None:
    assert solution.gap <= tolerance, (
        f"gap {solution.gap:.1e} > {tolerance:.0e} of {what}, after {solution.sweeps} sweeps and "
        f"{solution.newton_steps} Newton steps: {solution.lower_bound} <= {solution.value}"
    )


def assert_infimum(solution: RowColumnSolution, infimum: float, what: str, tolerance: float = 2e-12) -> None:
    assert_certified(solution, 1e-12, what)
    excess, overshoot = solution.value / infimum - 1, solution.lower_bound / infimum - 1
    assert abs(excess) <= tolerance, f"value of {what} is off by {excess:.1e}: {solution.value}, not {infimum}"
    assert overshoot <= 1e-13, f"lower bound of {what} is {overshoot:.1e} above the infimum {infimum}"
