"""What a rescaling, which leaves the function alone, does to the metrics of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.plotting.figures import name_rows, new_figure
from invariant_sharpness.results.ratios import Measured, factor_text, factors
from invariant_sharpness.symmetries.invariances import COVERED_BY, covers

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_AT_ONE = 0.9  # marks above it have their figure on the right, and need no room on the left
_INVARIANT, _RAW = "#0072B2", "#D55E00"


def plot_rescaling(
    before: Measured, after: Measured, axes: Axes | None = None, *, rescaling: str = "row_column"
) -> Axes:
    """Draw by what factor each metric of a model moved when it was rescaled, on a logarithmic scale.

    A bar goes from 1 to the magnitude of the value afterwards over the value before, which is written beside it. The metrics that
    are declared invariant to the rescaling have another color.

    Parameters
    ----------
    before, after
        The same metrics of the model and of the rescaled one, such as those of ``oracle`` and ``Moved(oracle, rescaled)``.
    axes
        The axes to draw in; by default those of a new figure, which is ``plot_rescaling(before, after).figure``.
    rescaling
        What was done to the model: ``"row_column"``, ``"layer"``, or another :data:`invariant_sharpness.symmetries.Invariance`.

    Returns
    -------
    Axes
        The axes with the picture.

    Raises
    ------
    ArgumentError
        If the reports have different metrics, or the rescaling is not known.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> before, after = (ish.measure(quadratic(h * np.eye(2), [[3.0, 4.0]]), ["hessian_trace"]) for h in (1.0, 8.0))
    >>> axes = plot_rescaling(before, after)
    >>> [text.get_text() for text in axes.texts]
    ['8']
    """
    return plot_rescalings_together({"": (before, after)}, axes, rescaling=rescaling)


def plot_rescalings_together(
    reports: Mapping[str, tuple[Measured, Measured]], axes: Axes | None = None, *, rescaling: str = "row_column"
) -> Axes:
    """Draw the marks of :func:`plot_rescaling` for several models, side by side.

    Parameters
    ----------
    reports
        The results before and after, by the name of each model.
    axes
        The axes to draw in; by default those of a new figure.
    rescaling
        What was done to the models: ``"row_column"``, ``"layer"``, or another :data:`invariant_sharpness.symmetries.Invariance`.

    Returns
    -------
    Axes
        The axes with the picture.

    Raises
    ------
    ArgumentError
        If the reports have different metrics, or the rescaling is not known.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> before, after = (ish.measure(quadratic(h * np.eye(2), [[3.0, 4.0]]), ["hessian_trace"]) for h in (1.0, 8.0))
    >>> axes = plot_rescalings_together({"one": (before, after), "the other": (after, before)})
    >>> [text.get_text() for text in axes.texts]
    ['8', '0.125']
    """
    if rescaling not in COVERED_BY:
        msg = f"rescaling={rescaling!r} is not known: take one of {', '.join(map(repr, COVERED_BY))}"
        raise ArgumentError(msg)
    moved = {model: factors(*(one.estimates for one in pair)) for model, pair in reports.items()}
    metrics, invariances = _common_metrics(reports)
    if axes is None:
        axes = new_figure(7.2, 1.4 + 0.34 * len(metrics) * len(moved)).add_subplot()
    step = 0.7 / len(moved)
    for row, metric in enumerate(metrics):
        color = _INVARIANT if covers(invariances.get(metric, ()), rescaling) else _RAW
        for index, by_metric in enumerate(moved.values()):
            height = row + (index - (len(moved) - 1) / 2) * step
            _draw_factor(axes, height, by_metric[metric], color, filled=index == 0)
    axes.set_xscale("log")
    name_rows(axes, metrics)
    axes.axvline(1, color="0.3", linewidth=0.8, zorder=1)
    axes.set_xlabel("factor by which the metric moved (1: not at all)")
    axes.grid(visible=True, axis="x", color="0.92")
    axes.set_axisbelow(True)
    _widen(axes, moved)
    _explain_marks(axes, list(moved))
    return axes


def _common_metrics(
    reports: Mapping[str, tuple[Measured, Measured]],
) -> tuple[list[str], Mapping[str, frozenset[str]]]:
    """Return the metrics of the first model, which have to be those of all, and their invariances."""
    (first, _), *others = reports.values()
    if any(list(other.estimates) != list(first.estimates) for other, _ in others):
        msg = f"the reports of {', '.join(reports)} have different metrics: draw each for itself"
        raise ArgumentError(msg)
    return list(first.estimates), first.invariances


def _draw_factor(axes: Axes, height: float, factor: float, color: str, *, filled: bool) -> None:
    if not _has_mark(factor):
        axes.text(1, height, f"  {factor}", va="center", fontsize="small", color=color)
        return
    magnitude = _position(factor)
    axes.plot([1, magnitude], [height, height], color=color, linewidth=2.2, zorder=2, solid_capstyle="butt")
    face = color if filled else "white"
    rightwards = magnitude > _AT_ONE
    axes.plot(magnitude, height, "o", color=color, markerfacecolor=face, markersize=6, markeredgewidth=1.6, zorder=3)
    axes.annotate(
        factor_text(factor),
        (magnitude, height),
        xytext=(7 if rightwards else -7, 0),
        textcoords="offset points",
        ha="left" if rightwards else "right",
        va="center",
        fontsize="small",
        color="0.2",
    )


def _has_mark(factor: float) -> bool:
    return isfinite(factor) and factor != 0


def _position(factor: float) -> float:
    """Return where a factor stands on the axis, which matplotlib cannot draw near the ends of the number range."""
    return min(max(abs(factor), 1e-100), 1e100)


def _widen(axes: Axes, moved: Mapping[str, Mapping[str, float]]) -> None:
    """Widen the axis for the figures beside the marks, which do not count in matplotlib's own limits."""
    values = [_position(f) for by_metric in moved.values() for f in by_metric.values() if _has_mark(f)]
    low, high = min([1.0, *values]), max([1.0, *values])
    decades = max((high / low) ** 0.25, 2.0)
    axes.set_xlim(low / (decades if low < _AT_ONE else decades**0.2), high * decades)


def _explain_marks(axes: Axes, models: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=_RAW, linewidth=2.2, label="not declared invariant to this rescaling"),
        Line2D([], [], color=_INVARIANT, linewidth=2.2, label="declared invariant to it"),
    ]
    for index, model in enumerate(models if len(models) > 1 else ()):
        face = "0.3" if index == 0 else "white"
        marks.append(Line2D([], [], color="0.3", marker="o", markerfacecolor=face, linestyle="", label=model))
    axes.legend(handles=marks, frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
