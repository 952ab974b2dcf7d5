r"""The objective: the parts in which its infimum is attained, and its points with the best B.

Draw an arrow from row i to row j if :math:`H_{ja} w_{ia} \ne 0` for some head a. What ties two strongly connected components of rows to each other can be
brought to zero by moving them apart. So the infimum is the sum over the components: each has its rows alone, and for each head the span of
their weights, modulo the vectors along which none of its rows has curvature. The proof is in the documentation.

A point is the vector x of logarithms of A. With :math:`M_a = \sum_i A_i H_{ia}` and :math:`N_a = \sum_i A_i^{-1} w_{ia} w_{ia}^T` the best B is
the geometric mean :math:`M_a^{-1} \# N_a`, and its cost :math:`2 \operatorname{tr} (M_a^{1/2} N_a M_a^{1/2})^{1/2}`: both terms of the objective are equal there. In the basis in which B is the identity, M
and N are the same diagonal matrix of numbers s, so the cost is twice their sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from invariant_sharpness.parameters.matrices import HostArray

Rows = npt.NDArray[np.intp]

_ROUNDING = 10.0
"""So many machine epsilons beside the largest number count as zero."""


class Part(NamedTuple):
    """A problem whose infimum is attained, if nothing is zero up to rounding alone.

    Parameters
    ----------
    curvatures, weights
        For each head, of shapes ``(rows, width, width)`` and ``(rows, width)``.
    """

    curvatures: list[HostArray]
    weights: list[HostArray]

    @property
    def size(self) -> HostArray:
        """The sum of all curvatures and that of all squared weights."""
        curvature = sum(float(np.einsum("ikk->", H)) for H in self.curvatures)
        return np.array([curvature, sum(float(np.sum(w**2)) for w in self.weights)])


def attained_parts(curvatures: HostArray, weights: HostArray, rounding: float) -> tuple[list[Part], bool]:
    """Return the parts that cost anything, and whether they are all that there is."""
    whole = _in_comparable_units(curvatures, weights)
    least = _ROUNDING * rounding
    arrows = csr_array(_arrows(whole, least).astype(float))
    _, labels = connected_components(arrows, directed=True, connection="strong")
    components = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    parts = [_part(whole, rows, least) for rows in components]
    left_out = whole.size - sum((part.size for part in parts), np.zeros(2))
    return [part for part in parts if part.size[1] > 0], bool((left_out <= least * whole.size).all())


def _in_comparable_units(curvatures: HostArray, weights: HostArray) -> Part:
    """Scale rows, and units within heads, such that curvatures and squared weights have the same size: no scale hides a rank."""
    diagonal = np.einsum("aikk->aik", curvatures)
    rows = _balance(diagonal.sum(axis=(0, 2)), (weights**2).sum(axis=(0, 2)))[:, None]
    units = _balance((diagonal * rows**2).sum(axis=1), (weights**2 / rows**2).sum(axis=1))[:, None]
    scale = rows * units
    return Part(list(curvatures * scale[..., :, None] * scale[..., None, :]), list(weights / scale))


def _balance(curvature: HostArray, square: HostArray) -> HostArray:
    """Return the scale s with ``curvature * s**2 == square / s**2``, or 1 where there is none."""
    both = (curvature > 0) & (square > 0)
    return np.divide(square, curvature, out=np.ones_like(square), where=both) ** 0.25


def _arrows(whole: Part, least: float) -> npt.NDArray[np.bool_]:
    """Say whether the weights of row i lie in the range of the curvature of row j, beyond rounding."""
    forms = sum(np.einsum("ik,jkl,il->ij", w, H, w, optimize=True) for H, w in zip(*whole, strict=True))
    sizes = sum(np.outer((w**2).sum(axis=1), np.einsum("jkk->j", H)) for H, w in zip(*whole, strict=True))
    return np.asarray(forms > least * sizes)


def _part(whole: Part, rows: Rows, least: float) -> Part:
    """Restrict the problem to one component; it has no width if it costs nothing."""
    part = Part([], [])
    for H, w in zip(*whole, strict=True):
        basis = _row_space(w[rows], least)
        basis = basis @ _curved(H[rows], w[rows], basis, least)
        part.curvatures.append(basis.T @ H[rows] @ basis)
        part.weights.append(w[rows] @ basis)
    return part


def _row_space(vectors: HostArray, least: float) -> HostArray:
    """Return orthonormal columns that span the rows, each of which counts the same."""
    lengths = np.linalg.norm(vectors, axis=1)
    _, values, V = np.linalg.svd(vectors[lengths > 0] / lengths[lengths > 0, None], full_matrices=False)
    return V[values > least * values.max(initial=0.0)].T


def _curved(curvatures: HostArray, w: HostArray, basis: HostArray, least: float) -> HostArray:
    """Return, within the basis, the complement of those vectors along which no row has curvature.

    It is decided in coordinates in which the weights are orthonormal, so that no change of the head's basis changes the decision.
    """
    # Coordinates in which the weights are orthonormal.
    _, values, V = np.linalg.svd(w @ basis, full_matrices=False)
    inward = V.T * values
    # Directions without curvature.
    sizes, vectors = np.linalg.eigh(inward.T @ (basis.T @ curvatures.sum(axis=0) @ basis) @ inward)
    flat = inward @ vectors[:, sizes <= least * sizes.max(initial=0.0)]
    # Their complement.
    complete, _ = np.linalg.qr(flat, mode="complete")
    return complete[:, flat.shape[1] :]


@dataclass(frozen=True, slots=True)
class Point:
    r"""A point of a part: some A, with the best B.

    Parameters
    ----------
    x
        The logarithms :math:`\ln A`, one for each row.
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
        """The derivative of the objective in x."""
        return self.curvature - self.penalty

    @property
    def expected(self) -> float:
        """About what the next sweep gains, relative to the value."""
        return float(np.sum(self.gradient**2 / (self.curvature + self.penalty))) / self.value


def point(part: Part, x: HostArray) -> Point:
    """Find the best B for these logarithms. Cost: one look at the curvatures."""
    A = np.exp(x)
    sizes, frames, weights = [], [], []
    curvature, penalty = np.zeros_like(x), np.zeros_like(x)
    for H, w in zip(*part, strict=True):
        # Frame in which M and N are the same diagonal matrix.
        M = np.tensordot(A, H, axes=1)
        L = np.linalg.cholesky(M)
        U, s, V = np.linalg.svd((w / np.sqrt(A)[:, None]) @ L, full_matrices=False)
        frame = np.linalg.solve(L.T, V.T * np.sqrt(s))
        sizes.append(s)
        frames.append(frame)
        weights.append(U * np.sqrt(s))
        # What each row contributes to the two terms.
        curvature += A * np.tensordot(H, frame @ frame.T, axes=2)
        penalty += U**2 @ s
    return Point(x, sizes, frames, weights, curvature, penalty)
