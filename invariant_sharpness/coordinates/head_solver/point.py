r"""A point of the problem: the logarithms x of A, with the best B.

With :math:`M_a = \sum_i A_i H_{ia}` and :math:`N_a = \sum_i A_i^{-1} w_{ia} w_{ia}^T` the best B is the geometric mean :math:`M_a^{-1} \# N_a`, and its cost
:math:`2 \operatorname{tr} (M_a^{1/2} N_a M_a^{1/2})^{1/2}`: both terms of the objective are equal there. In the basis in which B is the identity, M
and N are the same diagonal matrix of numbers s, so the cost is twice their sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from invariant_sharpness.coordinates.blocks import HostArray
from invariant_sharpness.coordinates.head_solver.parts import Part


@dataclass(frozen=True, slots=True)
class Point:
    r"""The best B for some A.

    Parameters
    ----------
    x
        :math:`\ln A`, for each row.
    sizes
        The numbers s of each head.
    frames
        For each head the matrix C with :math:`B = C C^T`.
    weights
        For each head :math:`A^{-1/2} C^{-1} w`.
    curvature, penalty
        What each row contributes to the two terms; over all rows their sums are equal.
    """

    x: HostArray
    sizes: list[HostArray]
    frames: list[HostArray]
    weights: list[HostArray]
    curvature: HostArray
    penalty: HostArray

    @property
    def value(self) -> float:
        """The objective."""
        return 2 * float(sum(s.sum() for s in self.sizes))

    @property
    def gradient(self) -> HostArray:
        """Derivative of the objective in x."""
        return self.curvature - self.penalty

    @property
    def expected(self) -> float:
        """What the next sweep gains, relative to the value, about."""
        return float(np.sum(self.gradient**2 / (self.curvature + self.penalty))) / self.value


def point(part: Part, x: HostArray) -> Point:
    """The point with these logarithms. Cost: one look at the curvatures."""
    A = np.exp(x)
    sizes, frames, weights = [], [], []
    curvature, penalty = np.zeros_like(x), np.zeros_like(x)
    for H, w in zip(*part, strict=True):
        M = np.tensordot(A, H, axes=1)
        L = np.linalg.cholesky(M)
        U, s, V = np.linalg.svd((w / np.sqrt(A)[:, None]) @ L, full_matrices=False)
        frame = np.linalg.solve(L.T, V.T * np.sqrt(s))
        sizes.append(s)
        frames.append(frame)
        weights.append(U * np.sqrt(s))
        curvature += A * np.tensordot(H, frame @ frame.T, axes=2)
        penalty += U**2 @ s
    return Point(x, sizes, frames, weights, curvature, penalty)
