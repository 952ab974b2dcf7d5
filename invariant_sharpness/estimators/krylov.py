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
from invariant_sharpness.estimators.products import Multiply
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.folder import Snapshot

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
        The oracle with the Hessian.
    start
        The first block. Without any, :meth:`refill` makes it.
    """

    def __init__(self, oracle: CurvatureOracle, start: Sequence[ParameterVector] = ()) -> None:
        self.oracle = oracle
        self._drawn = self._restarts = self.products = self.done = 0
        self._basis = OrthonormalBasis(oracle)
        self._projected: HostArray = np.zeros((0, 0))
        self._coupling: HostArray = np.zeros((0, 0))
        for vector in start:
            self._basis.extend(vector)

    def save(self) -> Snapshot:
        """Write down all that the space is; its vectors stay the same until it restarts."""
        counts = np.array([self.done, self.products, self._drawn, self._restarts])
        return Snapshot(
            {"projected": self._projected, "coupling": self._coupling, "counts": counts},
            {f"{self._restarts} {index}": vector for index, vector in enumerate(self._basis.vectors)},
        )

    def restored(self, saved: Snapshot) -> KrylovSpace:
        """Return the space that was written down."""
        space = KrylovSpace(self.oracle)
        space._projected, space._coupling = saved.arrays["projected"], saved.arrays["coupling"]
        space.done, space.products, space._drawn, space._restarts = saved.arrays["counts"].tolist()
        space._basis.vectors = list(saved.vectors.values())
        return space

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
        multiplied = OrthonormalBasis(self.oracle)
        multiplied.vectors = self._basis.vectors[: len(self)]
        return multiplied

    def expand(self, products: Sequence[ParameterVector]) -> None:
        """Take in the products of the block; what they add is the next one."""
        self.done += 1
        self.products += len(products)
        old, new = len(self), len(self) + len(products)
        size = float(np.linalg.norm(self._projected))
        # coordinates of the products, which also extend the basis
        columns = [self._basis.extend(product, size) for product in products]
        grown = np.zeros((len(self._basis), new))
        for index, column in enumerate(columns, start=old):
            grown[: len(column), index] = column
        # the new T: its old square, the coupling of the last block by symmetry, and the new square
        T = grown[:new]
        T[:old, :old] = self._projected
        T[old:, :old] = T[:old, old:].T
        T[old:, old:] = (T[old:, old:] + T[old:, old:].T) / 2
        self._projected, self._coupling = T, grown[new:]

    def refill(self, width: int, seed: int) -> None:
        """Bring the block to a width with random directions, as far as there are any.

        Uniform ones: signs can be orthogonal to an eigenvector exactly.
        """
        size = sum(group.size for group in self.oracle.groups)
        complete = min(len(self) + width, size)
        while len(self._basis) < complete:
            self._basis.extend(random.uniform(self.oracle, seed, self._drawn))
            self._drawn += 1

    def ritz_pairs(self) -> RitzPairs:
        """All Ritz pairs of the space."""
        values, coordinates = np.linalg.eigh(self._projected)
        return RitzPairs(values, coordinates, np.linalg.norm(self._coupling @ coordinates, axis=0))

    def vector(self, coordinates: HostArray) -> ParameterVector:
        """The vector of the space with these coordinates."""
        return combination(self._basis.vectors[: len(self)], coordinates, zero_vector(self.oracle))

    def restart(self, kept: Indices) -> None:
        """Keep the Ritz pairs with these indices, and the next block."""
        values, coordinates, _ = self.ritz_pairs()
        chosen = coordinates[:, kept]
        self._basis.vectors = [*(self.vector(column) for column in chosen.T), *self.block]
        self._projected, self._coupling = np.diag(values[kept]), self._coupling @ chosen
        self._restarts += 1


def grown(space: KrylovSpace, width: int, seed: int, multiply: Multiply) -> KrylovSpace | None:
    """Multiply a block of this width and take in the products; return None if the space is invariant and complete."""
    space.refill(width, seed)
    block = space.block
    if not block:
        return None
    space.expand([product for _, product in multiply(block)])
    return space
