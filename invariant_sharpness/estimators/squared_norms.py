r"""The squared Frobenius norm :math:`\lVert H \rVert_F^2`, exactly on a Krylov space and by random signs outside of it.

With :math:`H Q = Q T + V C` (see :mod:`~invariant_sharpness.estimators.krylov`), V orthogonal to Q, and :math:`P = I - Q Q^T`,

.. math:: \lVert H \rVert_F^2 = \lVert T \rVert_F^2 + 2 \lVert C \rVert_F^2 + \lVert P H P \rVert_F^2, \qquad
    \lVert P H P \rVert_F^2 = E \lVert P H P u \rVert^2 .

This holds for any Q, whether or not its Ritz pairs have converged. In a network few eigenvalues make most of the norm;
after a few steps they are inside, and the sampling error is that of what is left.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.estimators.bases import unit_vector
from invariant_sharpness.estimators.krylov import KrylovSpace, grown
from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT, numbers_of_products, repeated_products
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.loop import Loop, iterate
from invariant_sharpness.runtime.memory import reserve, vectors_within_limit

Samples = npt.NDArray[np.float64]

_WIDTH = 4
"""Directions of a block: more share one linearization, fewer make a deeper space."""


def squared_norm_samples(oracle: CurvatureOracle, num_matvecs: int, seed: int) -> Samples:
    """Draws whose mean estimates the squared norm without bias; given the space they are independent.

    Cost: ``num_matvecs`` Hessian-vector products, of which at most half make the space. Memory: as many vectors as these,
    and no more than half of the memory limit.
    """
    blocks = max(0, min(num_matvecs // 2, vectors_within_limit(oracle) // 2 - _WIDTH)) // _WIDTH
    with reserve(oracle, blocks * _WIDTH + _WIDTH if blocks else 0, "hessian_frobenius_norm"):
        space = _krylov_space(oracle, blocks, seed)
        inside = float(np.sum(space.projected**2)) + 2 * space.coupling**2
        basis = space.basis

        def outside(_: ParameterVector, product: ParameterVector) -> list[float]:
            return [basis.split(product)[1].norm() ** 2]

        def remainder(number: int) -> ParameterVector:
            return basis.split(random.signs(oracle, seed, space.products + number))[1]

        label, count = "probing the Frobenius norm", num_matvecs - space.products
        rows = numbers_of_products(oracle, remainder, count, label, outside, seed, space.products)
    return inside + rows[:, 0]


def column_squared_norms(oracle: CurvatureOracle) -> Samples:
    """The squared norm of every column of the Hessian. Cost: as many products as parameters."""
    entries = [(group.name, index) for group in oracle.groups for index in range(group.size)]
    return numbers_of_products(
        oracle,
        lambda number: unit_vector(oracle, *entries[number]),
        len(entries),
        "columns of the Hessian",
        lambda _, column: [column.norm() ** 2],
    ).ravel()


def _krylov_space(oracle: CurvatureOracle, blocks: int, seed: int) -> KrylovSpace:
    loop = Loop("Krylov space", oracle, (seed,), total=blocks, gradients=GRADIENTS_PER_PRODUCT * _WIDTH)
    multiply = repeated_products(oracle)
    return iterate(lambda space: grown(space, _WIDTH, seed, multiply), KrylovSpace(oracle), loop)
