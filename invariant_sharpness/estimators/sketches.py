r"""A sketch of the range of the Hessian, from which each random vector can be left out again.

With random signs :math:`\omega_1, \dots, \omega_s`, Q is an orthonormal basis of the span of all :math:`H \omega_i`, and :math:`Q_{(i)}`
one of the span of all others. They differ by one direction, :math:`Q_{(i)} Q_{(i)}^T = Q (I - s_i s_i^T) Q^T`, that small matrices tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.estimators.bases import HostArray, OrthonormalBasis
from invariant_sharpness.estimators.products import cached_products
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle

_REDUNDANT = 1e-6
"""A vector with a larger coefficient in another one is a combination of others."""


@dataclass(frozen=True, slots=True)
class Sketch:
    r"""Products :math:`Y = H \Omega` with random signs, as :math:`Y = Q R`.

    Parameters
    ----------
    basis
        The vectors of Q.
    coordinates
        The matrix R, one column per sign vector.
    left_out
        The unit vectors :math:`s_i`, as columns; zero where leaving out :math:`\omega_i` takes nothing from the span.
    forms
        The numbers :math:`\omega_i^T H \omega_i`.
    """

    basis: OrthonormalBasis
    coordinates: HostArray
    left_out: HostArray
    forms: HostArray


def sketch(oracle: CurvatureOracle, draws: int, seed: int) -> Sketch:
    """Sketch with the random signs of the indices below ``draws``. Cost: a product and a vector of memory each."""
    basis = OrthonormalBasis(oracle)
    columns, kept, forms = list[HostArray](), list[int](), list[float]()

    def signs(index: int) -> ParameterVector:
        return random.signs(oracle, seed, index)

    for index, (sign, product) in enumerate(cached_products(oracle, signs, draws, "sketching the Hessian", seed)):
        rank = len(basis)
        columns.append(basis.extend(product))
        if len(basis) > rank:
            kept.append(index)
        forms.append(sign.dot(product))
    # the triangular matrix R, column by column
    R = np.zeros((len(basis), draws))
    for index, column in enumerate(columns):
        R[: len(column), index] = column
    return Sketch(basis, R, _left_out(R, kept), np.array(forms))


def _left_out(coordinates: HostArray, kept: list[int]) -> HostArray:
    """The direction that only this column has: orthogonal to all others, so a row of the inverse.

    The ``kept`` columns are a triangular matrix; the others are combinations of them, and what has a part in one of
    these can be left out without loss.
    """
    # coefficients of the other columns in the kept ones
    inverse = np.linalg.inv(coordinates[:, kept])
    coefficients = np.abs(inverse @ np.delete(coordinates, kept, axis=1))
    needed = coefficients.max(axis=1, initial=0.0) <= _REDUNDANT
    # unit rows of the inverse, zero where another column would take the place of this one
    directions = np.zeros_like(coordinates)
    directions[:, kept] = inverse.T / np.linalg.norm(inverse, axis=1) * needed
    return directions
