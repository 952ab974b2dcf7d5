r"""A Krylov space of the Hessian, with the projection of H on it: Lanczos' method in blocks.

With an orthonormal basis Q of the vectors that have been multiplied, and the next block V of directions,

.. math:: H Q = Q T + V C .

The eigenvectors x of the small matrix T give the Ritz pairs :math:`(\lambda, Q x)`, with the residual :math:`\lVert C x \rVert`. All new
directions are orthogonalized against all others, twice, so the relation survives a restart and rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.estimators.bases import HostArray, OrthonormalBasis, combination, zero_vector
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.checkpoints import State, resumed

Indices = npt.NDArray[np.intp]


class RitzPairs(NamedTuple):
    r"""Ritz values in ascending order, the coordinates of their vectors as columns, and the residuals :math:`\lVert H v - \lambda v \rVert`."""

    values: HostArray
    coordinates: HostArray
    residuals: HostArray


class KrylovSpace:
    """The span of some vectors and their products so far.

    Parameters
    ----------
    oracle
        With the Hessian.
    start
        The first block. Without any, :meth:`refill` makes it.
    """

    def __init__(self, oracle: CurvatureOracle, start: Sequence[ParameterVector] = ()) -> None:
        self._oracle = oracle
        self._drawn = self._restarts = self.products = 0
        self._basis = OrthonormalBasis(oracle)
        self._projected: HostArray = np.zeros((0, 0))
        self._coupling: HostArray = np.zeros((0, 0))
        for vector in start:
            self._basis.extend(vector)

    @classmethod
    def from_state(cls, oracle: CurvatureOracle, state: State) -> KrylovSpace:
        """The space that had this state."""
        space = cls(oracle)
        space._projected, space._coupling = state.arrays["projected"], state.arrays["coupling"]
        space.products, space._drawn, space._restarts = state.arrays["counts"].tolist()
        space._basis.vectors = list(state.vectors.values())
        return space

    def state(self) -> State:
        """All that the space is; its vectors stay the same until it restarts."""
        counts = np.array([self.products, self._drawn, self._restarts])
        return State(
            {"projected": self._projected, "coupling": self._coupling, "counts": counts},
            {f"{self._restarts} {index}": vector for index, vector in enumerate(self._basis.vectors)},
        )

    def __len__(self) -> int:
        """Dimension of what has been multiplied."""
        return len(self._projected)

    @property
    def block(self) -> list[ParameterVector]:
        """The directions to multiply next; none if the space is invariant."""
        return self._basis.vectors[len(self) :]

    @property
    def projected(self) -> HostArray:
        """The matrix T."""
        return self._projected

    @property
    def coupling(self) -> float:
        """Norm of the matrix C: zero if the space is invariant."""
        return float(np.linalg.norm(self._coupling))

    def coupling_to(self, coordinates: HostArray) -> HostArray:
        """C x, the part outside of the space of the products of the vectors with these coordinates."""
        return self._coupling @ coordinates

    @property
    def basis(self) -> OrthonormalBasis:
        """The vectors of Q."""
        multiplied = OrthonormalBasis(self._oracle)
        multiplied.vectors = self._basis.vectors[: len(self)]
        return multiplied

    def expand(self, products: Sequence[ParameterVector]) -> None:
        """Take in the products of the block; what they add is the next one."""
        self.products += len(products)
        old, new = len(self), len(self) + len(products)
        size = float(np.linalg.norm(self._projected))
        columns = [self._basis.extend(product, size) for product in products]
        grown = np.zeros((len(self._basis), new))
        for index, column in enumerate(columns, start=old):
            grown[: len(column), index] = column
        T = grown[:new]
        T[:old, :old] = self._projected
        T[old:, :old] = T[:old, old:].T
        T[old:, old:] = (T[old:, old:] + T[old:, old:].T) / 2
        self._projected, self._coupling = T, grown[new:]

    def refill(self, width: int, seed: int) -> None:
        """Bring the block to a width with random directions, as far as there are any.

        Uniform ones: signs can be orthogonal to an eigenvector exactly.
        """
        size = sum(group.size for group in self._oracle.groups)
        complete = min(len(self) + width, size)
        while len(self._basis) < complete:
            self._basis.extend(random.uniform(self._oracle, seed, self._drawn))
            self._drawn += 1

    def ritz_pairs(self) -> RitzPairs:
        """All Ritz pairs of the space."""
        values, coordinates = np.linalg.eigh(self._projected)
        return RitzPairs(values, coordinates, np.linalg.norm(self._coupling @ coordinates, axis=0))

    def vector(self, coordinates: HostArray) -> ParameterVector:
        """The vector of the space with these coordinates."""
        return combination(self._basis.vectors[: len(self)], coordinates, zero_vector(self._oracle))

    def restart(self, kept: Indices) -> None:
        """Keep the Ritz pairs with these indices, and the next block."""
        values, coordinates, _ = self.ritz_pairs()
        chosen = coordinates[:, kept]
        self._basis.vectors = [*(self.vector(column) for column in chosen.T), *self.block]
        self._projected, self._coupling = np.diag(values[kept]), self._coupling @ chosen
        self._restarts += 1


def resumed_space(oracle: CurvatureOracle, loop: str, products: int) -> KrylovSpace:
    """The space in which a loop was left, or an empty one if there is none, or one of more products."""
    state = resumed(loop)
    space = KrylovSpace(oracle) if state is None else KrylovSpace.from_state(oracle, state)
    return space if space.products <= products else KrylovSpace(oracle)
