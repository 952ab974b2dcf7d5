"""The loss on a grid, on a line or a plane through the parameters."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf, isfinite
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.errors import ArgumentError, NonFiniteError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.plotting import plot_landscape
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.loop import Loop, tabulate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HostArray = npt.NDArray[np.float64]

_GRADIENTS_PER_LOSS = 1 / 3


@dataclass(frozen=True, slots=True)
class Landscape:
    """Losses on a grid around the parameters.

    Parameters
    ----------
    positions
        The coordinates a along each direction, the same for all; zero is in the middle.
    losses
        The loss at each point of the grid, one axis for each direction; infinite where the loss is no number.

    Examples
    --------
    >>> import numpy as np
    >>> Landscape(np.array([-1.0, 0.0, 1.0]), np.array([4.0, 1.0, 2.0])).center
    1.0
    """

    positions: HostArray
    losses: HostArray

    @property
    def center(self) -> float:
        """The loss at the parameters themselves."""
        return float(self.losses[(len(self.positions) // 2,) * self.losses.ndim])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists; None where the loss is no number."""
        flat = [float(loss) if isfinite(loss) else None for loss in self.losses.ravel()]
        return {"positions": self.positions.tolist(), "shape": list(self.losses.shape), "losses": flat}

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw it by :func:`invariant_sharpness.landscapes.plot_landscape`."""
        return plot_landscape(self, axes)


@checked_numbers
def loss_landscape(
    oracle: CurvatureOracle, directions: Sequence[ParameterVector], *, extent: float = 1.0, points: int = 25
) -> Landscape:
    r"""Compute the loss :math:`L(\theta + a_1 d_1 + a_2 d_2)` on a grid of :math:`a \in [-r, r]`.

    The model itself stays where it is.

    Parameters
    ----------
    oracle
        The oracle of the model.
    directions
        One or two, such as from :func:`balanced_directions` or :func:`filter_normalized_directions`.
    extent
        The largest r, in lengths of the directions.
    points
        The number of points along each direction: an odd number, so that the parameters themselves are on the grid.

    Returns
    -------
    Landscape
        The losses and their positions. Cost: ``points`` losses for one direction, their square for two; a loss is a third of a gradient.

    Raises
    ------
    ArgumentError
        If there are no directions or more than two, ``points`` is even or less than 3, or ``extent`` is not positive and finite.

    Notes
    -----
    Invariances: those of the directions. Source: Li, Xu, Taylor, Studer and Goldstein (2018).

    Examples
    --------
    The loss is :math:`w^2 / 2` at w = 3, and the direction is 1.

    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic([[1.0]], [[3.0]])
    >>> loss_landscape(oracle, [oracle.from_numpy({"weight": [[1.0]]})], points=3).losses.tolist()
    [2.0, 4.5, 8.0]
    """
    if len(directions) not in (1, 2):
        msg = f"{len(directions)} directions, but a landscape has one or two"
        raise ArgumentError(msg)
    if points < 3 or points % 2 == 0:
        msg = f"points={points}, but the parameters are on the grid only if there is an odd number of them, at least 3"
        raise ArgumentError(msg)
    if not 0 < extent < inf:
        msg = f"extent={extent}, but it is positive and finite"
        raise ArgumentError(msg)
    half = points // 2
    positions = np.arange(-half, half + 1).astype(np.float64) * (extent / half)
    grid = list(itertools.product(positions, repeat=len(directions)))
    settings = (*directions, extent, points)
    loop = Loop("landscape", oracle, settings, total=len(grid), gradients=_GRADIENTS_PER_LOSS, order=1)
    losses = tabulate(loop, grid, lambda points_left: (_loss(oracle, directions, a) for a in points_left))
    return Landscape(positions, losses.reshape((points,) * len(directions)))


def _loss(oracle: CurvatureOracle, directions: Sequence[ParameterVector], coordinates: Sequence[float]) -> float:
    steps = (float(a) * direction for a, direction in zip(coordinates, directions, strict=True) if a != 0)
    try:
        loss = oracle.loss(reduce(add, steps, oracle.parameters))
    except NonFiniteError:
        return inf
    return loss if isfinite(loss) else inf
