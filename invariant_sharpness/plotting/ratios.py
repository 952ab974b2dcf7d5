"""The metrics of several models as ratios to those of a first one."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING

from invariant_sharpness.plotting.figures import SERIES, name_rows, new_figure
from invariant_sharpness.results.agreement import Difference
from invariant_sharpness.results.ratios import ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_NARROW = 20
"""Ratios that are spread over less than this factor have ticks at equal distances."""


def plot_ratios(
    differences: Mapping[str, Mapping[str, Difference]], axes: Axes | None = None, *, reference: str = "the first"
) -> Axes:
    """Draw, for each metric, a mark at the value of a model over that of a first one, with its interval, on a logarithmic scale.

    A mark is filled where the difference exceeds the errors, and hollow elsewhere. Ratios that are not positive have their text alone.

    Parameters
    ----------
    differences
        By the name of the model, and by metric: the differences to the first model.
    axes
        The axes to draw in; by default those of a new figure, which is ``plot_ratios(differences).figure``.
    reference
        The name of the first model.

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
    >>> from invariant_sharpness.results.agreement import Difference
    >>> axes = plot_ratios({"sharp": {"hessian_trace": Difference(2.0, 6.0, 3.5, 4.5)}}, reference="flat")
    >>> [text.get_text() for text in axes.texts], axes.get_xlabel()
    (['3'], 'value over that of flat, with the 95 % interval of the difference')
    """
    metrics = list(dict.fromkeys(metric for by_metric in differences.values() for metric in by_metric))
    if axes is None:
        axes = new_figure(7.2, 1.3 + 0.3 * len(metrics) * len(differences) ** 0.5).add_subplot()
    axes.set_xscale("log")
    step = 0.7 / max(len(differences), 1)
    for index, by_metric in enumerate(differences.values()):
        for metric, found in by_metric.items():
            height = metrics.index(metric) + (index - (len(differences) - 1) / 2) * step
            _draw(axes, height, found, _color(index))
    name_rows(axes, metrics)
    _mark_factors(axes)
    axes.axvline(1, color="0.3", linewidth=0.8, zorder=1)
    axes.set_xlabel(f"value over that of {reference}, with the 95 % interval of the difference", parse_math=False)
    axes.grid(visible=True, axis="x", color="0.92")
    axes.set_axisbelow(True)
    _explain(axes, list(differences))
    return axes


def _draw(axes: Axes, height: float, found: Difference, color: str) -> None:
    factor = ratio(found.after, found.before)
    if not (isfinite(factor) and factor > 0):
        axes.text(1, height, f"  {factor:.3g}", va="center", fontsize="small", color=color)
        return
    ends = [1 + end / found.before for end in (found.lower, found.upper)]
    if all(isfinite(end) and end > 0 for end in ends):
        axes.plot(ends, [height, height], color=color, linewidth=1.6, zorder=2)
    filled = color if found.verdict == "beyond error" else "white"
    axes.plot(factor, height, "o", color=color, markerfacecolor=filled, markersize=6, markeredgewidth=1.6, zorder=3)
    axes.annotate(
        f"{factor:.4g}",
        (factor, height),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        fontsize="x-small",
        color="0.2",
    )


def _mark_factors(axes: Axes) -> None:
    """Write factors as plain numbers, also where there is no power of ten among them."""
    from matplotlib.ticker import MaxNLocator, NullFormatter

    axes.margins(x=0.15)
    low, high = axes.get_xlim()
    if high < _NARROW * low:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _color(index: int) -> str:
    """The color that a model has beside the first one in other pictures, too."""
    return SERIES[(index + 1) % len(SERIES)]


def _explain(axes: Axes, models: list[str]) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=_color(index), marker="o", linewidth=1.6, label=model)
        for index, model in enumerate(models)
    ]
    hollow = Line2D(
        [], [], color="0.4", marker="o", markerfacecolor="white", linestyle="", label="not beyond its error"
    )
    legend = axes.legend(
        handles=[*marks, hollow],
        frameon=False,
        fontsize="small",
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
