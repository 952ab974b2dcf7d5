r"""The variances :math:`(\sigma_i \sigma'_j)^2` of one weight, as they move away from the minimizer of (17)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from invariant_sharpness.coordinates.blocks import HostArray
from invariant_sharpness.coordinates.families import Family
from invariant_sharpness.coordinates.solver import solve

_POLISH = 1e-26  # the error of a scale is the root of the gap of the value


@dataclass(frozen=True, slots=True)
class LayerScales:
    r"""The scales of one weight.

    Parameters
    ----------
    family
        The weight.
    start
        Variances to start from, of shape (blocks, rows, columns); zero in cells that get no noise.
    penalties
        :math:`W^2 / (2\lambda)` of the same cells, zero where there is no noise.
    """

    family: Family
    start: HostArray
    penalties: HostArray

    @property
    def size(self) -> int:
        """How many numbers say where the scales are: one per row and one per column."""
        blocks, rows, columns = self.start.shape
        return blocks * (rows + columns)

    def variances(self, point: HostArray) -> HostArray:
        """The variances, for changes of the logarithms of the rows' and then of the columns' squared scales."""
        blocks, rows, columns = self.start.shape
        x, y = point[: blocks * rows].reshape(blocks, rows, 1), point[blocks * rows :].reshape(blocks, 1, columns)
        return self.start * np.exp(x + y)

    def costs(self, variances: HostArray) -> HostArray:
        """The penalty of each cell."""
        return np.divide(self.penalties, variances, out=np.zeros_like(variances), where=variances > 0)

    def slope(self, cells: HostArray) -> HostArray:
        """The derivative in all rows and columns, from that in the logarithm of each variance."""
        return np.concatenate([cells.sum(axis=2).ravel(), cells.sum(axis=1).ravel()])


def best_scales(family: Family, weights: HostArray, curvature: HostArray, lam: float) -> LayerScales:
    r"""The minimizer of :math:`\sum_{ij} \tfrac12 h_{ij} v_{ij} + W_{ij}^2 / (2\lambda v_{ij})`: (17), with its factor one half.

    Where the minimum is not attained, as for dead units, which cost nothing, there is no noise.
    """
    a = family.blocks({family.weight.name: np.clip(curvature, 0, None)}) / 2
    b = family.blocks({family.weight.name: weights**2}) / (2 * lam)
    solutions = [solve(x, y, tolerance=_POLISH) for x, y in zip(a, b, strict=True)]
    within = np.stack([s.within_blocks for s in solutions])
    logarithms = np.stack([s.rows[:, None] + s.columns for s in solutions])
    return LayerScales(family, np.where(within, np.exp(logarithms), 0.0), np.where(within, b, 0.0))
