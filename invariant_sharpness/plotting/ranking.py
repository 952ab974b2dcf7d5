"""Pictures of a ranking: the distribution of sign errors, and gaps over a measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.plotting.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_COLORS = 10


def plot_sign_errors(sign_errors: Mapping[str, npt.NDArray[np.float64]], axes: Axes | None = None) -> Axes:
    """Draw for each measure the share of environments whose sign error is at most what the horizontal axis says.

    The sooner a line is at the top, the better the measure orders pairs of configurations.

    Parameters
    ----------
    sign_errors
        The sign errors of all environments, by measure.
    axes
        The axes to draw in; by default those of a new figure.

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
    >>> from invariant_sharpness.plotting import plot_sign_errors
    >>> axes = plot_sign_errors({"trace": np.array([0.0, 0.5])})
    >>> [float(value) for value in axes.lines[0].get_ydata()]
    [0.0, 0.5, 1.0, 1.0]
    """
    axes = new_figure(6.4, 4.4).add_subplot() if axes is None else axes
    for number, (name, errors) in enumerate(sign_errors.items()):
        rising = np.sort(errors)
        heights = np.arange(len(rising) + 1) / max(len(rising), 1)
        style = ("-", "--", ":", "-.")[number // _MOST_COLORS % 4]
        axes.step([0.0, *rising, 1.0], [*heights, heights[-1]], where="post", label=name, linestyle=style)
    axes.set(xlabel="sign error", ylabel="share of environments", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(fontsize="small", frameon=False, loc="lower right")
    return axes


def plot_gaps(
    measure: npt.NDArray[np.float64],
    gaps: npt.NDArray[np.float64],
    colors: Sequence[Any],
    *,
    name: str,
    color_name: str,
    axes: Axes | None = None,
) -> Axes:
    """Draw a point for each network: its gap over its measure, with a color for each value of one hyperparameter.

    Parameters
    ----------
    measure, gaps
        One number each for each network.
    colors
        The value of the hyperparameter of each network.
    name, color_name
        The names of the measure and of the hyperparameter.
    axes
        The axes to draw in; by default those of a new figure.

    Returns
    -------
    Axes
        The axes with the picture; the measure is on a logarithmic axis if it is positive and covers more than a factor of ten.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness.plotting import plot_gaps
    >>> axes = plot_gaps(np.array([1.0, 2.0]), np.array([0.1, 0.2]), ["a", "b"], name="trace", color_name="net")
    >>> axes.collections[1].get_offsets().tolist()
    [[2.0, 0.2]]
    """
    axes = new_figure(5.4, 4.2).add_subplot() if axes is None else axes
    finite = np.isfinite(measure)
    for value in dict.fromkeys(colors):
        chosen = finite & np.asarray([color == value for color in colors])
        axes.scatter(measure[chosen], gaps[chosen], s=18, alpha=0.8, label=f"{value}")
    shown = measure[finite]
    if len(shown) and shown.min() > 0 and shown.max() > 10 * shown.min():
        axes.set_xscale("log")
    axes.set(xlabel=name, ylabel="generalization gap")
    axes.legend(title=color_name, fontsize="small", frameon=False)
    return axes
