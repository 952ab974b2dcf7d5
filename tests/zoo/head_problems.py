"""Problems with heads: random curvatures and weights, their objective as it is printed, and what SciPy finds."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

Array = Any


def random_problem(
    rng: np.random.Generator, shape: tuple[int, int, int], *, rank: int = 9, decades: float = 0.0
) -> tuple[Array, Array]:
    """Curvatures of this rank and weights, for ``(heads, rows, width)``, their rows spread over powers of ten."""
    heads, rows, width = shape
    roots = rng.normal(size=(heads, rows, rank, width)) * 10 ** rng.uniform(-decades, decades, (rows, 1, 1))
    return curvatures(roots), rng.normal(size=shape) * 10 ** rng.uniform(-decades, decades, (rows, 1))


def curvatures(roots: Array) -> Array:
    """Positive semidefinite matrices from roots ``(heads, rows, rank, width)``."""
    return np.einsum("airk,airl->aikl", roots, roots)


def objective(curvature: Array, w: Array, rows: Array, units: Array) -> float:
    """Both terms at positive numbers for the rows and positive definite matrices for the units."""
    first = np.einsum("i,aikl,akl->", rows, curvature, units)
    return float(first + np.einsum("i,aik,akl,ail->", 1 / rows, w, np.linalg.inv(units), w))


def scipy_minimum(curvature: Array, w: Array) -> float:
    """The least value that BFGS finds from ones, over logarithms of A and Cholesky factors of B."""
    heads, rows, width = w.shape
    below = np.tril_indices(width)
    start = np.zeros(rows + heads * len(below[0]))
    parts = np.split(np.arange(len(start)), rows + len(below[0]) * np.arange(heads))

    def logarithm(point: Array) -> tuple[float, Array]:
        A, value, slopes = np.exp(point[:rows]), 0.0, np.zeros_like(point)
        for a, part in enumerate(parts[1:]):
            L = np.zeros((width, width))
            L[below] = point[part]
            np.fill_diagonal(L, np.exp(np.diag(L)))
            M = np.tensordot(A, curvature[a], axes=1)
            z = solve_triangular(L, w[a].T, lower=True)
            value += np.sum(M * (L @ L.T)) + np.sum(z**2 / A)
            slopes[:rows] += A * np.tensordot(curvature[a], L @ L.T, axes=2) - np.sum(z**2, axis=0) / A
            slope = 2 * M @ L - 2 * solve_triangular(L, (z / A) @ z.T, lower=True, trans=1)
            slope[np.diag_indices(width)] *= np.diag(L)
            slopes[part] = slope[below]
        return float(np.log(value)), slopes / value

    with np.errstate(all="ignore"):  # the points run off where the infimum is not attained
        found = minimize(logarithm, start, jac=True, method="BFGS", options={"maxiter": 3000, "gtol": 1e-11})
    return float(np.exp(found.fun))
