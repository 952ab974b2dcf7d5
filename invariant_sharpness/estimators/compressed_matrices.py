r"""Several positive semidefinite matrices, seen through the same random directions.

With the columns of :math:`\Omega`, the matrices :math:`T_b = \Omega^T A_b \Omega`. Write the mean of the :math:`A_b` as :math:`B^T B`. As soon as
:math:`B \Omega` has the range of :math:`B`, which it has almost surely when there are no fewer directions than its rank, all that depends on this
range alone can be read off the small matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.estimators.bases import HostArray
from invariant_sharpness.estimators.products import tracked_products
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.runtime.memory import reserve
from invariant_sharpness.runtime.progress import track

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


def compressions(parts: Sequence[CurvatureOracle], *, probes: int, seed: int) -> Compressions:
    """Compress the Hessians of some oracles of equal weight to the range of their mean.

    Random signs are taken until the rank of what they see grows no more, or they are as many as allowed. Eigenvalues of the
    mean that are rounding beside the largest count as zero.

    Cost: a product of each part, and a vector of memory, for each direction.
    """
    size = sum(group.size for group in parts[0].groups)
    count = min(probes, size)
    rounding = machine_epsilon(parts[0])
    with reserve(parts[0], count, "the range of the mean curvature"):
        signs = (random.signs(parts[0], seed, index) for index in range(count))
        taken: list[ParameterVector] = []
        seen = np.zeros((len(parts), 0, 0))
        found = _whitened(seen, rounding)
        while len(taken) < count and found.rank == len(taken):
            taken += islice(signs, _BLOCK)
            seen = _grown(seen, parts, taken)
            found = _whitened(seen, rounding)
    return found


def _grown(seen: HostArray, parts: Sequence[CurvatureOracle], taken: Sequence[ParameterVector]) -> HostArray:
    """Return the matrices with the rows and columns of the directions that are new."""
    known, count = seen.shape[1], len(taken)
    grown = np.zeros((len(parts), count, count))
    grown[:, :known, :known] = seen
    for b, part in enumerate(track(parts, "curvature of the minibatches", len(parts))):
        # the columns of the new directions, then their rows by symmetry
        pairs = tracked_products(part, taken[known:], count - known, "products of a minibatch")
        for j, (_, product) in enumerate(pairs, start=known):
            grown[b, :, j] = product.dots(taken)
        grown[b, known:, :known] = grown[b, :known, known:].T
        # the new square, symmetric up to rounding
        square = grown[b, known:, known:]
        grown[b, known:, known:] = (square + square.T) / 2
    return grown


def _whitened(seen: HostArray, rounding: float) -> Compressions:
    # eigenvalues of the mean above rounding span its range
    values, X = np.linalg.eigh(seen.mean(axis=0))
    least = rounding * len(values) * np.abs(values).max(initial=0.0)
    kept = values > least
    # in these columns the mean is the identity
    Z = X[:, kept] / np.sqrt(values[kept])
    clear = not kept.any() or bool(values[kept].min() > _CLEAR * least)
    return Compressions(Z.T @ seen @ Z, len(values), bool((values < -least).any()), clear)
