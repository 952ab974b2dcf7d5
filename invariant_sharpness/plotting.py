"""Pictures of estimates. They take and return matplotlib axes, and never touch pyplot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from invariant_sharpness.estimate import Estimate
from invariant_sharpness.registry import missing_dependency

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 30
"""More groups than this are not drawn: the picture shows the largest."""

_LONGEST_NAME = 48
_AT_ONE = 0.9  # marks above it have their figure on the right, and need no room on the left
_INVARIANT, _RAW = "#0072B2", "#D55E00"
_SERIES = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def new_figure(width: float, height: float) -> Figure:
    """A matplotlib figure of this size in inches, which belongs to no window and can be saved anywhere.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as cause:
        error = missing_dependency("matplotlib", "plot", "a picture")
        raise error from cause
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def plot_groups(estimate: Estimate, axes: Axes | None = None) -> Axes:
    """Horizontal bars: the share of each parameter group in a metric, with the standard errors of sampled ones.

    Parameters
    ----------
    estimate
        Of a metric that is a sum over parameter groups.
    axes
        Where to draw; by default in a new figure, which is ``plot_groups(estimate).figure``.

    Raises
    ------
    ValueError
        If the metric has no share per group; names the metric.
    MissingDependencyError
        If matplotlib is not installed.
    """
    title = f"{estimate.name} = {estimate.value:.4g}"
    return plot_groups_together({title: estimate}, axes)


def plot_groups_together(estimates: Mapping[str, Estimate], axes: Axes | None = None) -> Axes:
    """As :func:`plot_groups`, for several estimates of one metric side by side, by the title of each.

    Raises
    ------
    ValueError
        If one of them has no share per group, or they have different groups.
    MissingDependencyError
        If matplotlib is not installed.
    """
    names = _common_groups(estimates)
    shown = _largest(names, estimates)
    if axes is None:
        axes = new_figure(7.2, 1.0 + 0.3 * len(shown) * len(estimates) ** 0.5).add_subplot()
    height = 0.75 / len(estimates)
    for index, (title, estimate) in enumerate(estimates.items()):
        shares = [estimate.per_group[name] for name in shown]
        axes.barh(
            [position + (index - (len(estimates) - 1) / 2) * height for position in range(len(shown))],
            [share.value for share in shares],
            height=0.9 * height,
            xerr=[share.standard_error or 0.0 for share in shares] if _is_sampled(estimate) else None,
            error_kw={"elinewidth": 1.2, "capsize": 3, "ecolor": "0.2"},
            color=_SERIES[index % len(_SERIES)],
            label=title,
        )
    _name_rows(axes, shown)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_title(_title(estimates, len(shown), len(names)), fontsize="medium", loc="left", parse_math=False)
    axes.set_xlabel("share of the group" + (", ± standard error" if any(map(_is_sampled, estimates.values())) else ""))
    if len(estimates) > 1:
        axes.legend(frameon=False, fontsize="small")
    return axes


def plot_rescaling(
    factors: Mapping[str, Mapping[str, float]], invariant: Collection[str], axes: Axes | None = None
) -> Axes:
    """By what factor each metric moved when networks were rescaled, on a logarithmic scale.

    Parameters
    ----------
    factors
        By network, then by metric: the value afterwards over the value before. The magnitude is drawn.
    invariant
        The metrics that claim to survive the rescaling, which are drawn in another color.
    axes
        Where to draw; by default in a new figure.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    networks = list(factors)
    metrics = list(next(iter(factors.values())))
    if axes is None:
        axes = new_figure(7.2, 1.4 + 0.34 * len(metrics) * len(networks)).add_subplot()
    step = 0.7 / len(networks)
    for row, metric in enumerate(metrics):
        color = _INVARIANT if metric in invariant else _RAW
        for index, network in enumerate(networks):
            height = row + (index - (len(networks) - 1) / 2) * step
            _draw_factor(axes, height, factors[network][metric], color, filled=index == 0)
    axes.set_xscale("log")
    _name_rows(axes, metrics)
    axes.axvline(1, color="0.3", linewidth=0.8, zorder=1)
    axes.set_xlabel("factor by which the metric moved (1: not at all)")
    axes.grid(visible=True, axis="x", color="0.92")
    axes.set_axisbelow(True)
    _widen(axes, factors)
    _explain_marks(axes, networks)
    return axes


def factor_text(factor: float) -> str:
    """A factor in few characters, with all digits where it is close to 1."""
    return f"{factor:.6f}" if 0.9 < factor < 1.1 else f"{factor:.3g}"


def _common_groups(estimates: Mapping[str, Estimate]) -> list[str]:
    for estimate in estimates.values():
        if not estimate.per_group:
            msg = (
                f"{estimate.name} has no value per parameter group, so there are no bars to draw: "
                f"take a metric that is a sum over the groups, such as normalized_sharpness"
            )
            raise ValueError(msg)
    first, *others = [list(estimate.per_group) for estimate in estimates.values()]
    if any(other != first for other in others):
        msg = f"the estimates {', '.join(estimates)} have different parameter groups: draw each for itself"
        raise ValueError(msg)
    return first


def _largest(names: Sequence[str], estimates: Mapping[str, Estimate]) -> list[str]:
    """The groups that are shown, in the order of the model."""

    def size(name: str) -> float:
        return max(abs(estimate.per_group[name].value) for estimate in estimates.values())

    kept = set(sorted(names, key=size, reverse=True)[:MOST_BARS])
    return [name for name in names if name in kept]


def _is_sampled(estimate: Estimate) -> bool:
    return any(share.standard_error is not None for share in estimate.per_group.values())


def _title(estimates: Mapping[str, Estimate], shown: int, groups: int) -> str:
    title = next(iter(estimates)) if len(estimates) == 1 else next(iter(estimates.values())).name
    return title if shown == groups else f"{title}\nthe {shown} largest of {groups} groups"


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """One row per name, the first on top. Names are the user's text: no formulas, not too long, on one line."""
    axes.set_yticks(range(len(names)), labels=[_shortened(name) for name in names], parse_math=False, fontsize="small")
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _shortened(name: str) -> str:
    """The name on one line, with its middle left out if it is long: both ends tell groups apart."""
    line = "".join(character if character.isprintable() else " " for character in name)
    if len(line) <= _LONGEST_NAME:
        return line
    end = _LONGEST_NAME // 2
    return f"{line[: _LONGEST_NAME - end - 1]}…{line[-end:]}"


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
    """Where a factor stands on the axis, which matplotlib cannot draw near the ends of the number range."""
    return min(max(abs(factor), 1e-100), 1e100)


def _widen(axes: Axes, factors: Mapping[str, Mapping[str, float]]) -> None:
    """Room for the figures beside the marks: they do not count in matplotlib's own limits."""
    values = [_position(f) for by_metric in factors.values() for f in by_metric.values() if _has_mark(f)]
    low, high = min([1.0, *values]), max([1.0, *values])
    decades = max((high / low) ** 0.25, 2.0)
    axes.set_xlim(low / (decades if low < _AT_ONE else decades**0.2), high * decades)


def _explain_marks(axes: Axes, networks: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=_RAW, linewidth=2.2, label="makes no claim to survive this rescaling"),
        Line2D([], [], color=_INVARIANT, linewidth=2.2, label="claims to survive it"),
    ]
    for index, network in enumerate(networks):
        face = "0.3" if index == 0 else "white"
        marks.append(Line2D([], [], color="0.3", marker="o", markerfacecolor=face, linestyle="", label=network))
    axes.legend(handles=marks, frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
