"""A picture of a metric in the course of a training run, with the threshold of stability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import nan
from typing import TYPE_CHECKING, Protocol

from invariant_sharpness.plotting.figures import new_figure
from invariant_sharpness.results.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOR = "#0072B2"
_THRESHOLD = "#D55E00"
_CURVATURES = ("hessian_spectral_norm", "batch_sharpness", "critical_sharpness")
"""The metrics, by the beginnings of their names, that gradient descent brings to 2 / learning rate."""

_PRECONDITIONED = "preconditioned_sharpness"


class Measured(Protocol):
    """An entry of :class:`invariant_sharpness.Monitor`."""

    @property
    def step(self) -> int:
        """The number of the step."""
        ...

    @property
    def learning_rate(self) -> float | None:
        """The learning rate, if it is known."""
        ...

    @property
    def threshold(self) -> float | None:
        """That of the optimizer, if it is known."""
        ...

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """The values, by the name of the metric."""
        ...


def plot_course(entries: Iterable[Measured], metric: str, axes: Axes | None = None) -> Axes:
    """Draw a metric over the steps, and where it has one the threshold above which training is not stable.

    That is 2 / learning rate for the curvatures of gradient descent, and that of the optimizer for preconditioned sharpness. A value that is missing is a gap.

    Parameters
    ----------
    entries
        Those of a monitor.
    metric
        The name of the metric.
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
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness.plotting import plot_course
    >>> from invariant_sharpness_numpy import quadratic
    >>> monitor = ish.Monitor("hessian_spectral_norm")
    >>> entry = monitor.step(quadratic(np.diag([1.0, 4.0]), np.ones((1, 2))), step=0, learning_rate=0.1)
    >>> line = plot_course(monitor, "hessian_spectral_norm").lines[-1]
    >>> line.get_label(), line.get_ydata().tolist()
    ('2 / learning rate', [20.0])
    """
    axes = new_figure(7.2, 3.6).add_subplot() if axes is None else axes
    seen = list(entries)
    steps = [entry.step for entry in seen]
    found = [entry.estimates.get(metric) for entry in seen]
    values = [nan if estimate is None else estimate.value for estimate in found]
    errors = [nan if estimate is None else estimate.standard_error or nan for estimate in found]
    axes.errorbar(steps, values, errors, color=_COLOR, marker="o", markersize=3, linewidth=1.2, label=metric)
    label, thresholds = _thresholds(seen, metric)
    if any(threshold is not None for threshold in thresholds):
        line = [nan if threshold is None else threshold for threshold in thresholds]
        axes.plot(steps, line, color=_THRESHOLD, linestyle="--", linewidth=1.2, label=label)
        axes.legend(fontsize="small", frameon=False)
    axes.set_xlabel("step")
    axes.set_ylabel(metric, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _thresholds(entries: Iterable[Measured], metric: str) -> tuple[str, list[float | None]]:
    """What the line is called, and where it is at each entry."""
    if metric.startswith(_PRECONDITIONED):
        return "threshold of the optimizer", [entry.threshold for entry in entries]
    if metric.startswith(_CURVATURES):
        return "2 / learning rate", [2 / entry.learning_rate if entry.learning_rate else None for entry in entries]
    return "", []
