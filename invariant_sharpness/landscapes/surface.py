"""The loss on a line or a plane through the parameters."""

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

from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.plotting import new_figure
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
        Along each direction, the same for all; zero is in the middle.
    losses
        One axis for each direction. Infinite where the loss is no number.
    """

    positions: HostArray
    losses: HostArray

    @property
    def center(self) -> float:
        """The loss at the parameters themselves."""
        return float(self.losses[(len(self.positions) // 2,) * self.losses.ndim])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists; None where the loss is no number."""
        flat = [float(loss) if isfinite(loss) else None for loss in self.losses.ravel()]
        return {"positions": self.positions.tolist(), "shape": list(self.losses.shape), "losses": flat}

    def plot(self, axes: Axes | None = None) -> Axes:
        """As :func:`invariant_sharpness.landscapes.plot_landscape`."""
        from invariant_sharpness.landscapes.surface import plot_landscape

        return plot_landscape(self, axes)


def loss_landscape(
    oracle: CurvatureOracle, directions: Sequence[ParameterVector], *, extent: float = 1.0, points: int = 25
) -> Landscape:
    r"""The loss :math:`L(\theta + a_1 d_1 + a_2 d_2)` on a grid of :math:`a \in [-r, r]`.

    The model itself stays where it is. Cost: ``points`` losses for one direction, their square for two.

    Parameters
    ----------
    directions
        One or two, such as from :func:`balanced_directions` or :func:`filter_normalized_directions`.
    extent
        The largest r, in lengths of the directions.
    points
        Along each direction. An odd number, so that the parameters themselves are on the grid.

    Raises
    ------
    ValueError
        If there are no directions or more than two, ``points`` is even or less than 3, or ``extent`` is not positive and finite.
    """
    if len(directions) not in (1, 2):
        msg = f"{len(directions)} directions, but a landscape has one or two"
        raise ValueError(msg)
    if points < 3 or points % 2 == 0:
        msg = f"points={points}, but the parameters are on the grid only if there is an odd number of them, at least 3"
        raise ValueError(msg)
    if not 0 < extent < inf:
        msg = f"extent={extent}, but it is positive and finite"
        raise ValueError(msg)
    half = points // 2
    positions = np.arange(-half, half + 1).astype(np.float64) * (extent / half)
    grid = list(itertools.product(positions, repeat=len(directions)))
    settings = (*directions, extent, points)
    loop = Loop("landscape", oracle, settings, total=len(grid), gradients=_GRADIENTS_PER_LOSS, order=1)
    losses = tabulate(loop, grid, lambda places: (_loss(oracle, directions, place) for place in places))
    return Landscape(positions, losses.reshape((points,) * len(directions)))


def _loss(oracle: CurvatureOracle, directions: Sequence[ParameterVector], place: Sequence[float]) -> float:
    steps = (float(a) * direction for a, direction in zip(place, directions, strict=True) if a != 0)
    try:
        loss = oracle.loss(reduce(add, steps, oracle.parameters))
    except NonFiniteError:
        return inf
    return loss if isfinite(loss) else inf


_LEVELS = 24
_COLOR = "#0072B2"


def plot_landscape(landscape: Landscape, axes: Axes | None = None) -> Axes:
    """A curve of the loss along one direction, or its contours in the plane of two; a cross marks the parameters.

    Contours are equally spaced in the logarithm of the loss, from its least value on the grid to the largest that is finite.

    Parameters
    ----------
    landscape
        What is drawn.
    axes
        Where to draw; by default in a new figure.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    if axes is None:
        axes = new_figure(5.2, 4.2).add_subplot()
    if landscape.losses.ndim == 1:
        _curve(landscape, axes)
    else:
        _contours(landscape, axes)
    axes.set_title(f"loss {landscape.center:.4g} at the parameters", fontsize="medium", loc="left")
    return axes


def _curve(landscape: Landscape, axes: Axes) -> None:
    finite = np.isfinite(landscape.losses)
    axes.plot(landscape.positions[finite], landscape.losses[finite], color=_COLOR, linewidth=1.4)
    axes.plot(0, landscape.center, "x", color="black")
    axes.set(xlabel="along the direction", ylabel="loss")
    axes.spines[["top", "right"]].set_visible(False)


def _contours(landscape: Landscape, axes: Axes) -> None:
    losses = np.ma.masked_invalid(landscape.losses).T
    low, high = float(losses.min()), float(losses.max())
    floor = max(low, 1e-12 * high, np.finfo(float).tiny)
    if high > floor:
        levels = np.geomspace(floor, high, _LEVELS)
        drawn = axes.contourf(landscape.positions, landscape.positions, losses.clip(floor), levels, norm="log")
        axes.contour(
            landscape.positions, landscape.positions, losses.clip(floor), levels, colors="white", linewidths=0.3
        )
        axes.figure.colorbar(drawn, ax=axes, label="loss", format="%.2g")
    axes.plot(0, 0, "x", color="black")
    axes.set(xlabel="first direction", ylabel="second direction", aspect="equal")
