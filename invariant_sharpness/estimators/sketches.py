r"""A sketch of the range of the Hessian, from which each random vector can be left out again.

With random signs :math:`\omega_1, \dots, \omega_s`, Q is an orthonormal basis of the span of all :math:`H \omega_i`, and :math:`Q_{(i)}`
one of the span of all others. They differ by one direction, :math:`Q_{(i)} Q_{(i)}^T = Q (I - s_i s_i^T) Q^T`, that small matrices tell.

Several positive semidefinite matrices, seen through the same random directions.

With the columns of :math:`\Omega`, the matrices :math:`T_b = \Omega^T A_b \Omega`. Write the mean of the :math:`A_b` as :math:`B^T B`. As soon as
:math:`B \Omega` has the range of :math:`B`, which it has almost surely when there are no fewer directions than its rank, all that depends on this
range alone can be read off the small matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.estimators.bases import HostArray, OrthonormalBasis
from invariant_sharpness.estimators.products import cached_products, tracked_products
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.runtime.memory import reserve
from invariant_sharpness.runtime.progress import track

_REDUNDANT = 1e-6
"""A vector with a larger share in another one is a combination of others."""


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
    R = np.zeros((len(basis), draws))
    for index, column in enumerate(columns):
        R[: len(column), index] = column
    return Sketch(basis, R, _left_out(R, kept), np.array(forms))


def _left_out(coordinates: HostArray, kept: list[int]) -> HostArray:
    """The direction that only this column has: orthogonal to all others, so a row of the inverse.

    The ``kept`` columns are a triangular matrix; the others are combinations of them, and what has a part in one of
    these can be left out without loss.
    """
    inverse = np.linalg.inv(coordinates[:, kept])
    shares = np.abs(inverse @ np.delete(coordinates, kept, axis=1))
    needed = shares.max(axis=1, initial=0.0) <= _REDUNDANT
    directions = np.zeros_like(coordinates)
    directions[:, kept] = inverse.T / np.linalg.norm(inverse, axis=1) * needed
    return directions


_BLOCK = 32
"""After so many directions it is asked whether the range is exhausted."""

_CLEAR = 10.0
"""How many times the threshold of rounding an eigenvalue has to be."""


class Compressions(NamedTuple):
    r"""What the directions see.

    Parameters
    ----------
    whitened
        The matrices :math:`Z^T T_b Z`, where the columns of Z are as many as the rank, and the mean of all is the identity.
    directions
        How many were taken.
    is_negative
        Whether the mean has a negative eigenvalue beyond rounding: what belongs to it is left out.
    is_clear
        Whether every eigenvalue of the mean that counts is far above rounding, so that the rank is no accident of the precision.
    """

    whitened: HostArray
    directions: int
    is_negative: bool
    is_clear: bool

    @property
    def rank(self) -> int:
        """Rank of the mean, as far as the directions see."""
        return self.whitened.shape[1]


def compressions(parts: Sequence[CurvatureOracle], *, directions: int, seed: int) -> Compressions:
    """The Hessians of some oracles of equal weight, in the range of their mean.

    Random signs are taken until the rank of what they see grows no more, or they are as many as allowed. Eigenvalues of the
    mean that are rounding beside the largest count as zero.

    Cost: a product of each part, and a vector of memory, for each direction.
    """
    size = sum(group.size for group in parts[0].groups)
    most = min(directions, size)
    rounding = machine_epsilon(parts[0])
    with reserve(parts[0], most, "the range of the mean curvature"):
        signs = (random.signs(parts[0], seed, index) for index in range(most))
        taken: list[ParameterVector] = []
        seen = np.zeros((len(parts), 0, 0))
        found = _whitened(seen, rounding)
        while len(taken) < most and found.rank == len(taken):
            taken += islice(signs, _BLOCK)
            seen = _grown(seen, parts, taken)
            found = _whitened(seen, rounding)
    return found


def _grown(seen: HostArray, parts: Sequence[CurvatureOracle], taken: Sequence[ParameterVector]) -> HostArray:
    """The matrices with the rows and columns of the directions that are new."""
    known, count = seen.shape[1], len(taken)
    grown = np.zeros((len(parts), count, count))
    grown[:, :known, :known] = seen
    for b, part in enumerate(track(parts, "curvature of the minibatches", len(parts))):
        pairs = tracked_products(part, taken[known:], count - known, "products of a minibatch")
        for j, (_, product) in enumerate(pairs, start=known):
            grown[b, :, j] = [direction.dot(product) for direction in taken]
        grown[b, known:, :known] = grown[b, :known, known:].T
        square = grown[b, known:, known:]
        grown[b, known:, known:] = (square + square.T) / 2
    return grown


def _whitened(seen: HostArray, rounding: float) -> Compressions:
    values, X = np.linalg.eigh(seen.mean(axis=0))
    least = rounding * len(values) * np.abs(values).max(initial=0.0)
    kept = values > least
    Z = X[:, kept] / np.sqrt(values[kept])
    clear = not kept.any() or bool(values[kept].min() > _CLEAR * least)
    return Compressions(Z.T @ seen @ Z, len(values), bool((values < -least).any()), clear)
