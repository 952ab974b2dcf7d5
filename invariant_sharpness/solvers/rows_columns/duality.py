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

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

_LINEAR_RANGE = 1e-120  # smaller entries, relative to the largest, could overflow products of scales
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

    @property
    def have_linear_range(self) -> bool:
        """Whether the entries can be multiplied by scales without leaving the range of floating point."""
        a_least, b_least = (m.min(where=m > 0, initial=np.inf) / m.max() for m in (self.a, self.b))
        return bool(min(a_least, b_least) >= _LINEAR_RANGE)

    def linear(self) -> tuple[Matrix, Matrix]:
        """Return the coefficients in these units."""
        return np.ldexp(self.a, -self.a_exponent), np.ldexp(self.b, -self.b_exponent)

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


def rank_one_flow(gamma: Matrix, row_sums: Matrix) -> Matrix:
    """Return a correction ``delta`` with the given row sums, which add up to zero, and zero column sums.

    Every column carries the same pattern, with a weight ``w_j`` such that the loss is least:
    ``w_j`` is inversely proportional to ``sum_i r_i^2 / gamma_ij``.
    """
    # What the pattern costs in each column, and the inverse.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cost = np.where(row_sums[:, None] == 0, 0.0, row_sums[:, None] ** 2 / gamma).sum(axis=0)
        conductance = np.where(np.isfinite(cost), 1.0 / cost, 0.0)
    # Columns that carry it at no cost share it among themselves.
    if not np.isfinite(conductance).all():
        conductance = np.where(np.isfinite(conductance), 0.0, 1.0)
    # Weights that add up to one.
    total = conductance.sum()
    weights = conductance / total if total > 0 else np.full_like(conductance, np.nan)
    return row_sums[:, None] * weights[None, :]


def _even_exponent(matrix: Matrix) -> int:
    return int(np.frexp(matrix.max())[1]) // 2 * 2


def _logarithm(matrix: Matrix, exponent: int) -> Matrix:
    mantissa, exponents = np.frexp(matrix)
    with np.errstate(divide="ignore"):
        return np.log(mantissa) + (exponents - exponent) * np.log(2)
