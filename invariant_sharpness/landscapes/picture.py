"""Pictures of landscapes, in the manner of :mod:`invariant_sharpness.plotting`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from invariant_sharpness.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from invariant_sharpness.landscapes.surface import Landscape

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
