r"""The squared Frobenius norm :math:`\lVert H \rVert_F^2`, exactly on a Krylov space and by random signs outside of it.

With :math:`H Q = Q T + V C` (see :mod:`~invariant_sharpness.estimators.krylov`), V orthogonal to Q, and :math:`P = I - Q Q^T`,

.. math:: \lVert H \rVert_F^2 = \lVert T \rVert_F^2 + 2 \lVert C \rVert_F^2 + \lVert P H P \rVert_F^2, \qquad
    \lVert P H P \rVert_F^2 = E \lVert P H P u \rVert^2 .

This holds for any Q, whether or not its Ritz pairs have converged. In a network few eigenvalues make most of the norm;
after a few steps they are inside, and the draws scatter with what is left.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.estimators.krylov import KrylovSpace, resumed_space
from invariant_sharpness.estimators.products import hessian_vector_products, numbers_of_products
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.checkpoints import keep, loop_name
from invariant_sharpness.runtime.memory import room_for_vectors, vectors_within_limit
from invariant_sharpness.runtime.progress import track

Samples = npt.NDArray[np.float64]

_WIDTH = 4
"""Directions of a block: more share one linearization, fewer make a deeper space."""


def squared_norm_samples(oracle: CurvatureOracle, products: int, seed: int) -> Samples:
    """Draws whose mean estimates the squared norm without bias; given the space they are independent.

    Cost: ``products`` Hessian-vector products, of which at most half make the space. Memory: as many vectors as these,
    and no more than half of the memory limit.
    """
    blocks = max(0, min(products // 2, vectors_within_limit(oracle) // 2 - _WIDTH)) // _WIDTH
    with room_for_vectors(oracle, blocks * _WIDTH + _WIDTH if blocks else 0, "hessian_frobenius_norm"):
        space = _krylov_space(oracle, blocks, seed)
        inside = float(np.sum(space.projected**2)) + 2 * space.coupling**2
        basis = space.basis

        def outside(_: ParameterVector, product: ParameterVector) -> list[float]:
            return [basis.split(product)[1].norm() ** 2]

        indices = range(space.products, products)
        remainders = (basis.split(random.signs(oracle, seed, index))[1] for index in indices)
        label = "probing the Frobenius norm"
        rows = numbers_of_products(oracle, remainders, len(indices), label, outside, seed, space.products)
    return inside + rows[:, 0]


def column_squared_norms(oracle: CurvatureOracle) -> Samples:
    """The squared norm of every column of the Hessian. Cost: as many products as parameters."""
    size = sum(group.size for group in oracle.groups)
    label = "columns of the Hessian"
    return numbers_of_products(
        oracle, _unit_vectors(oracle), size, label, lambda _, column: [column.norm() ** 2]
    ).ravel()


def _unit_vectors(oracle: CurvatureOracle) -> Iterator[ParameterVector]:
    for group in oracle.groups:
        for index in np.ndindex(*group.shape):
            arrays = {other.name: np.zeros(other.shape) for other in oracle.groups}
            arrays[group.name][index] = 1.0
            yield oracle.from_numpy(arrays)


def _krylov_space(oracle: CurvatureOracle, blocks: int, seed: int) -> KrylovSpace:
    loop = loop_name("Krylov space", oracle, oracle.parameters, seed)
    space = resumed_space(oracle, loop, blocks * _WIDTH)
    for _ in track(range(space.products // _WIDTH, blocks), "Krylov space", blocks):
        space.refill(_WIDTH, seed)
        products = hessian_vector_products(oracle, space.block, len(space.block), "a block")
        space.expand([product for _, product in products])
        keep(loop, space.state)
    return space
