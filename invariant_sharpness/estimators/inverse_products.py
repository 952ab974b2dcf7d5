r"""Inner products :math:`g_i^T A^+ g_j` with the pseudo-inverse of a positive semidefinite matrix, from products with it alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from invariant_sharpness.estimators.bases import HostArray
from invariant_sharpness.estimators.krylov import KrylovSpace
from invariant_sharpness.estimators.products import tracked_products
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.runtime.memory import reserve
from invariant_sharpness.runtime.progress import track


class InverseProducts(NamedTuple):
    r"""The matrix of all :math:`g_i^T A^+ g_j`, and the largest :math:`\lVert A x_j - g_j \rVert / \lVert g_j \rVert`."""

    gram: HostArray
    residual: float


def inverse_products(
    oracle: CurvatureOracle, vectors: Sequence[ParameterVector], *, max_iterations: int, tolerance: float
) -> InverseProducts:
    r"""All inner products of some vectors in the range of A, which is the Hessian of ``oracle``.

    With the block Krylov space :math:`Q` of the vectors and :math:`T = Q^T A Q`, :math:`x_j = Q T^+ Q^T g_j`: conjugate gradients
    for all vectors in one space, with every direction kept orthogonal to all others. Diagonal entries come from below. Eigenvalues
    of T that are rounding beside the largest count as zero.

    Cost: ``max_iterations`` products for each vector, and as many vectors in memory.

    Parameters
    ----------
    max_iterations
        Number of blocks of products, at most.
    tolerance
        Residual at which to stop.
    """
    with reserve(oracle, len(vectors) * (max_iterations + 1), "the inverse of the Fisher matrix"):
        space = KrylovSpace(oracle, vectors)
        first = np.stack([_coordinates(space, vector) for vector in vectors], axis=1)
        found = InverseProducts(np.zeros((len(vectors), len(vectors))), 1.0)
        for _ in track(range(max_iterations), "Krylov space of the gradients", max_iterations):
            if not space.block or found.residual <= tolerance:
                break
            block = space.block
            pairs = tracked_products(oracle, block, len(block), "products with the Fisher matrix")
            space.expand([product for _, product in pairs])
            found = _galerkin(space, first, machine_epsilon(oracle))
    return found


def _coordinates(space: KrylovSpace, vector: ParameterVector) -> HostArray:
    return np.array(vector.dots(space.block))


def _galerkin(space: KrylovSpace, first: HostArray, rounding: float) -> InverseProducts:
    # eigenvalues of T that are no rounding
    T = space.projected
    values, X = np.linalg.eigh(T)
    kept = values > rounding * len(T) * values[-1]
    g = np.zeros((len(T), first.shape[1]))
    g[: len(first)] = first
    # x = T^+ g, and g^T x
    along = X[:, kept].T @ g
    x = X[:, kept] @ (along / values[kept, None])
    # residuals inside of the space and outside of it
    errors = np.hypot(np.linalg.norm(T @ x - g, axis=0), np.linalg.norm(space.coupling_to(x), axis=0))
    sizes = np.linalg.norm(g, axis=0)
    residual = float(np.max(np.divide(errors, sizes, out=np.zeros_like(sizes), where=sizes > 0)))
    return InverseProducts(along.T @ (along / values[kept, None]), residual)
