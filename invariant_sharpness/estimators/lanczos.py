"""The eigenvalue of largest magnitude, by Lanczos' method with full reorthogonalization."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh_tridiagonal

from invariant_sharpness import probes as random
from invariant_sharpness.progress import track
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector


@dataclass(frozen=True, slots=True)
class ExtremeEigenvalue:
    r"""A Ritz value with its residual :math:`\|H v - \lambda v\|`: some eigenvalue is that close to it."""

    value: float
    residual: float
    steps: int
    converged: bool


def largest_magnitude_eigenvalue(
    oracle: CurvatureOracle, *, tolerance: float, steps: int, seed: int
) -> ExtremeEigenvalue:
    """Lanczos from a random vector, until the residual is at most ``tolerance * abs(value)``.

    Cost: one Hessian-vector product and one more vector of memory per step. A residual r means an
    error of the eigenvalue of at most r, and of about ``r**2 / gap`` once it is isolated.
    """
    size = sum(group.size for group in oracle.groups)
    basis: list[ParameterVector] = []
    diagonal: list[float] = []
    couplings: list[float] = []
    vector = random.uniform(oracle, seed, 0)  # signs can be orthogonal to an eigenvector exactly
    vector = vector / vector.norm()
    best = ExtremeEigenvalue(0.0, np.inf, 0, converged=False)
    for step in track(range(1, min(steps, size) + 1), "Lanczos", min(steps, size)):
        basis.append(vector)
        product = oracle.hessian_vector_product(oracle.parameters, vector)
        diagonal.append(vector.dot(product))
        remainder = _orthogonalize(product, basis)
        coupling = remainder.norm()
        best = _extreme_ritz_value(np.array(diagonal), np.array(couplings), coupling, tolerance)
        if best.converged or step == size:
            break
        couplings.append(coupling)
        vector = remainder / coupling
    return best


def _orthogonalize(vector: ParameterVector, basis: list[ParameterVector]) -> ParameterVector:
    """Remove the parts along the basis, twice: once is not enough in floating point."""
    for _ in range(2):
        for direction in basis:
            vector = vector - vector.dot(direction) * direction
    return vector


def _extreme_ritz_value(
    diagonal: npt.NDArray[np.float64], couplings: npt.NDArray[np.float64], last: float, tolerance: float
) -> ExtremeEigenvalue:
    values, vectors = eigh_tridiagonal(diagonal, couplings)
    index = int(np.argmax(np.abs(values)))
    value, residual = float(values[index]), float(abs(last * vectors[-1, index]))
    return ExtremeEigenvalue(value, residual, len(diagonal), residual <= tolerance * abs(value))
