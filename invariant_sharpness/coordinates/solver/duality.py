r"""Points of (17) with the lower bound that duality gives them.

At a point z write A = a e^z, B = b e^{-z}, gamma = A + B and mu = A - B, the derivative of each cell. A
cell f(t) = A e^t + B e^{-t} has f'' >= gamma e^{-|t|}, hence f(t) >= f(0) + mu t + gamma (e^{-|t|} - 1 + |t|), hence

    min_t f(t) - (mu - delta) t  >=  f(0) - delta^2 / (2 gamma (1 - rho)),     rho = |delta| / gamma < 1.

If delta is chosen such that all row and column sums of mu - delta vanish, the linear terms add up to
nothing for every x and y, and the sum over the cells bounds the infimum from below. The bound
holds for one-sided cells (A = 0 or B = 0) too, and it has no cancellation: it can certify 1e-15.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Iterate:
    """A point (x, y) of one block, its objective and a lower bound of the infimum."""

    x: Matrix
    y: Matrix
    value: float
    lower_bound: float

    @property
    def gap(self) -> float:
        """Relative gap between value and bound."""
        return (self.value - self.lower_bound) / self.value

    def transposed(self) -> Iterate:
        """The point for the transposed matrices."""
        return Iterate(self.y, self.x, self.value, self.lower_bound)


def flow_loss(gamma: Matrix, delta: Matrix) -> float:
    """How far below the value the bound lies: the sum of ``delta^2 / (2 gamma (1 - rho))``.

    Infinite where ``delta`` moves a cell further than its curvature allows.
    """
    moved = delta != 0
    if (gamma[moved] <= 0).any():
        return np.inf
    share = np.abs(delta[moved]) / gamma[moved]
    if share.max(initial=0.0) >= 1:
        return np.inf
    return float(np.sum(np.abs(delta[moved]) * share / (2 * (1 - share))))


def loss_without_flow(rising: Matrix, falling: Matrix) -> float:
    """The same for cells in which ``delta = mu``: each is bounded by its own minimum, ``2 sqrt(A B)``."""
    return float(np.sum((np.sqrt(rising) - np.sqrt(falling)) ** 2))


def rank_one_flow(gamma: Matrix, row_sums: Matrix) -> Matrix:
    """A correction ``delta`` with the given row sums, which add up to zero, and zero column sums.

    Every column carries the same pattern, with a share ``w_j`` such that the loss is least:
    ``w_j`` is inversely proportional to ``sum_i r_i^2 / gamma_ij``.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = np.where(row_sums[:, None] == 0, 0.0, row_sums[:, None] ** 2 / gamma).sum(axis=0)
        conductance = np.where(np.isfinite(cost), 1.0 / cost, 0.0)
    if not np.isfinite(conductance).all():
        conductance = np.where(np.isfinite(conductance), 0.0, 1.0)
    total = conductance.sum()
    share = conductance / total if total > 0 else np.full_like(conductance, np.nan)
    return row_sums[:, None] * share[None, :]
