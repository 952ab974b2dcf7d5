"""A picture of the loss on a line or a plane through the parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from invariant_sharpness.plotting.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HostArray = npt.NDArray[np.float64]

_LEVELS = 24
_COLOR = "#0072B2"


class Grid(Protocol):
    """Losses on a grid around the parameters, such as :class:`invariant_sharpness.landscapes.Landscape`."""

    @property
    def positions(self) -> HostArray:
        """The coordinates along each direction."""
        ...

    @property
    def losses(self) -> HostArray:
        """The losses, one axis for each direction."""
        ...

    @property
    def center(self) -> float:
        """The loss at the parameters themselves."""
        ...


def plot_landscape(landscape: Grid, axes: Axes | None = None) -> Axes:
    """Draw a curve of the loss along one direction, or its contours in the plane of two; a cross marks the parameters.

    Contours are equally spaced in the logarithm of the loss, from its least value on the grid to the largest that is finite.

    Parameters
    ----------
    landscape
        The losses, as from :func:`invariant_sharpness.landscapes.loss_landscape`.
    axes
        The axes to draw in; by default those of a new figure, which is ``plot_landscape(landscape).figure``.

    Returns
    -------
    Axes
        The axes with the picture.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness.landscapes import Landscape
    >>> axes = plot_landscape(Landscape(np.array([-1.0, 0.0, 1.0]), np.array([4.0, 1.0, 2.0])))
    >>> axes.get_title(loc="left")
    'loss 1 at the parameters'
    """
    if axes is None:
        axes = new_figure(5.2, 4.2).add_subplot()
    if landscape.losses.ndim == 1:
        _curve(landscape, axes)
    else:
        _contours(landscape, axes)
    axes.set_title(f"loss {landscape.center:.4g} at the parameters", fontsize="medium", loc="left")
    return axes


def _curve(landscape: Grid, axes: Axes) -> None:
    finite = np.isfinite(landscape.losses)
    axes.plot(landscape.positions[finite], landscape.losses[finite], color=_COLOR, linewidth=1.4)
    axes.plot(0, landscape.center, "x", color="black")
    axes.set(xlabel="along the direction", ylabel="loss")
    axes.spines[["top", "right"]].set_visible(False)


def _contours(landscape: Grid, axes: Axes) -> None:
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
