"""One connected component of (17): its coefficients, its points, and the lower bound that duality gives a point.

At a point z = x_i + y_j write A = a e^z, B = b e^{-z}, gamma = A + B and mu = A - B, the derivative of each cell. A
cell f(t) = A e^t + B e^{-t} has f'' >= gamma e^{-|t|}, hence f(t) >= f(0) + mu t + gamma (e^{-|t|} - 1 + |t|), hence

    min_t f(t) - (mu - delta) t  >=  f(0) - delta^2 / (2 gamma (1 - rho)),     rho = |delta| / gamma < 1.

If delta is chosen such that all row and column sums of mu - delta vanish, the linear terms add up to
nothing for every x and y, and the sum over the cells bounds the infimum from below. The bound
holds for one-sided cells (A = 0 or B = 0) too, and nothing in it cancels: it can prove a relative gap of 1e-15. Cells
far from their minimum, with rho near 1 or above, take the minimum itself, which has a closed form.

Coefficients are held in units in which the largest are near one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

_LINEAR_RANGE = {np.float32: 1e-20, np.float64: 1e-120}
"""Smaller entries, relative to the largest, could overflow products of scales."""

_LONGEST_STEP = 1000
_FREE = 1e-300  # a column that costs less carries the flow at no cost
_NO_FLOW = 1e-12  # relative to gamma: rounding in the flow of a cell that carries none


@dataclass(frozen=True, slots=True)
class Iterate:
    """A point (x, y), its objective, and the loss: how far below the objective the infimum can lie."""

    x: Matrix
    y: Matrix
    value: float
    loss: float

    @property
    def gap(self) -> float:
        """The relative gap between value and bound. It can be smaller than rounding: its root is the error of x and y."""
        return self.loss / self.value

    def transposed(self) -> Iterate:
        """Return the point for the transposed matrices."""
        return Iterate(self.y, self.x, self.value, self.loss)


@dataclass(frozen=True, slots=True)
class Cells:
    """The matrices ``a`` and ``b``, each divided by a power of two, which is exact.

    The powers are even, so that their roots, which the value and the scales are multiplied by, are exact too.
    """

    a: Matrix
    b: Matrix
    a_exponent: int
    b_exponent: int

    @classmethod
    def of(cls, a: Matrix, b: Matrix) -> Cells:
        """Choose the units of two matrices that both have a positive entry."""
        return cls(a, b, _even_exponent(a), _even_exponent(b))

    def have_range_of(self, dtype: type[np.floating[Any]]) -> bool:
        """Whether the entries can be multiplied by scales without leaving the range of this type."""
        return min(_least(m) / float(m.max()) for m in (self.a, self.b)) >= _LINEAR_RANGE[dtype]

    def linear(self) -> tuple[Matrix, Matrix]:
        """Return the coefficients in these units."""
        return _scaled(self.a, -self.a_exponent), _scaled(self.b, -self.b_exponent)

    def logarithms(self) -> tuple[Matrix, Matrix]:
        """Return their logarithms, which no range can make overflow; minus infinity for zeros."""
        return _logarithm(self.a, self.a_exponent), _logarithm(self.b, self.b_exponent)

    def in_original_units(self, iterate: Iterate) -> Iterate:
        """Return the point, its value and its bound for the matrices as they were given."""
        exponent = (self.a_exponent + self.b_exponent) // 2
        shift = 0.5 * (self.b_exponent - self.a_exponent) * np.log(2)
        value, loss = (float(np.ldexp(v, exponent)) for v in (iterate.value, iterate.loss))
        return Iterate(iterate.x + shift, iterate.y, value, loss)


def quadratic_losses(gamma: Matrix, delta: Matrix) -> Matrix:
    """Compute by how much each cell lowers the bound: ``delta^2 / (2 gamma (1 - rho))``.

    It is infinite where ``delta`` moves a cell further than its curvature allows.
    """
    rho = np.divide(np.abs(delta), gamma, out=np.where(delta == 0, 0.0, np.inf), where=gamma > 0)
    return np.divide(np.abs(delta) * rho, 2 * (1 - rho), out=np.full_like(gamma, np.inf), where=rho < 1)


def exact_losses(rising: Matrix, falling: Matrix, flow: Matrix) -> Matrix:
    """Compute the same without an approximation, for cells far from their minimum; it loses digits near it.

    With ``nu = mu - delta`` the minimum of ``f(t) - nu t`` is ``r - |nu| ln((|nu| + r) / 2 C)``, where
    ``r^2 = nu^2 + 4 A B``, and C is A for positive and B for negative ``nu``. It is minus infinity if C = 0.
    """
    gamma = rising + falling
    # nu, without the rounding of cells that carry none.
    flow = np.where(np.abs(flow) <= _NO_FLOW * gamma, 0.0, flow)
    # r, without overflow of its square.
    root = np.hypot(flow, 2 * np.sqrt(rising) * np.sqrt(falling))
    # The argument of the logarithm, over the term that the flow pushes against.
    pushed = np.where(flow > 0, rising, falling)
    with np.errstate(divide="ignore", over="ignore"):
        ratio = np.divide(np.abs(flow) + root, 2 * pushed, out=np.ones_like(root), where=flow != 0)
    return gamma - root + np.abs(flow) * np.log(ratio)


def rank_one_loss(gammas: Iterable[tuple[slice, Matrix]], row_sums: npt.NDArray[np.floating[Any]]) -> float:
    r"""Return the loss of a correction ``delta`` with the given row sums, which add up to zero, and zero column sums.

    Every column carries the same pattern, ``delta_ij = r_i w_j``, with a weight that is inversely proportional to ``c_j = sum_i r_i^2 / gamma_ij``, which makes the
    sum of ``delta^2 / gamma`` least, namely ``1 / sum_j (1 / c_j)``. All cells take the largest ``rho``: near the minimum it is far below one.

    Parameters
    ----------
    gammas
        Some rows at a time: which, and their cells.
    row_sums
        The row sums r of mu.

    Returns
    -------
    float
        The loss; infinite if a cell would have to carry more than its curvature allows.
    """
    sizes = np.abs(row_sums)
    columns = [_column_costs(gamma, sizes[rows]) for rows, gamma in gammas]
    cost, steepest = np.sum([c for c, _ in columns], axis=0), np.max([m for _, m in columns], axis=0)
    if (cost < _FREE).any():
        return 0.0
    carrying = np.isfinite(cost)
    conductance = 1 / cost[carrying]
    total = float(conductance.sum())
    rho = float((conductance * steepest[carrying]).max()) / total if total > 0 else np.inf
    return 1 / (2 * total * (1 - rho)) if rho < 1 else np.inf


def _column_costs(gamma: Matrix, sizes: npt.NDArray[np.floating[Any]]) -> tuple[Matrix, Matrix]:
    """Return ``sum_i r_i^2 / gamma_ij`` and ``max_i |r_i| / gamma_ij`` of each column; a row without imbalance costs nothing."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        steepness = sizes[:, None] / gamma
    steepness[sizes == 0] = 0.0
    return sizes @ steepness, steepness.max(axis=0)


def _least(matrix: Matrix) -> float:
    """Return the smallest positive entry."""
    least = float(matrix.min())
    return least if least > 0 else float(np.where(matrix > 0, matrix, np.inf).min())


def _scaled(matrix: Matrix, exponent: int) -> Matrix:
    """Multiply with a power of two, by steps that floating point holds."""
    step = min(max(exponent, -_LONGEST_STEP), _LONGEST_STEP)
    scaled = matrix * 2.0**step
    return scaled if step == exponent else _scaled(scaled, exponent - step)


def _even_exponent(matrix: Matrix) -> int:
    return int(np.frexp(matrix.max())[1]) // 2 * 2


def _logarithm(matrix: Matrix, exponent: int) -> Matrix:
    mantissa, exponents = np.frexp(matrix)
    with np.errstate(divide="ignore"):
        return np.log(mantissa) + (exponents - exponent) * np.log(2)
