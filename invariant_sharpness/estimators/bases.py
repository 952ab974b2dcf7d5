"""Orthonormal bases of parameter vectors, and the vectors that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add, sub

import numpy as np
import numpy.typing as npt

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon

HostArray = npt.NDArray[np.float64]

_ROUNDING, _MOST_ROUNDING = 100.0, 0.01
"""A remainder up to this many machine epsilons is no new direction, unless it is larger than this fraction of the vector."""


class OrthonormalBasis:
    r"""Orthonormal vectors :math:`q_1, q_2, \dots`, the columns of a matrix Q, by Gram-Schmidt.

    Every vector stays as it is held, one array per group; only inner products reach the host, all of a pass at once.

    Parameters
    ----------
    oracle
        The oracle whose vectors they are: their precision says what is rounding.
    """

    def __init__(self, oracle: CurvatureOracle) -> None:
        self.vectors: list[ParameterVector] = []
        self._rounding = min(_ROUNDING * machine_epsilon(oracle), _MOST_ROUNDING)

    def __len__(self) -> int:
        return len(self.vectors)

    def coordinates(self, vector: ParameterVector) -> HostArray:
        r"""The inner products :math:`Q^T v`. The host reads once."""
        return np.array(vector.dots(self.vectors))

    def split(self, vector: ParameterVector) -> tuple[HostArray, ParameterVector]:
        r"""Coordinates c and remainder r of :math:`v = Q c + r`, with r orthogonal to the basis. The host reads twice.

        Classical Gram-Schmidt, which takes all inner products of a pass before it subtracts. Twice: once is not enough in floating point.
        """
        coordinates = np.zeros(len(self))
        for _ in range(2):
            parts = self.coordinates(vector)
            coordinates += parts
            vector = reduce(sub, (float(c) * q for c, q in zip(parts, self.vectors, strict=True)), vector)
        return coordinates, vector

    def extend(self, vector: ParameterVector, size: float = 0.0) -> HostArray:
        """Add what is new in a vector, unless it is rounding, and return the vector's coordinates in what is the basis then.

        Parameters
        ----------
        vector
            Any vector.
        size
            What a remainder is compared with, if that is more than the norm of the vector.
        """
        least = self._rounding * max(size, vector.norm())
        coordinates, remainder = self.split(vector)
        length = remainder.norm()
        if length <= least:
            return coordinates
        self.vectors.append(remainder / length)
        return np.append(coordinates, length)


def combination(vectors: Sequence[ParameterVector], coefficients: HostArray, zero: ParameterVector) -> ParameterVector:
    r"""The sum :math:`\sum_j c_j v_j`."""
    terms = (float(c) * vector for c, vector in zip(coefficients, vectors, strict=True))
    return reduce(add, terms, zero)


def zero_vector(oracle: CurvatureOracle) -> ParameterVector:
    """The vector of zeros."""
    return oracle.parameters.map(oracle.xp.zeros_like)


def unit_vector(oracle: CurvatureOracle, name: str, index: int) -> ParameterVector:
    """Return the vector that is one at this entry of the named group, counted in C order, and zero elsewhere."""
    arrays = {group.name: np.zeros(group.shape) for group in oracle.groups}
    arrays[name].reshape(-1)[index] = 1.0
    return oracle.from_numpy(arrays)
