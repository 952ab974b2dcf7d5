"""Bars: the contribution of each parameter group to a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.plotting.figures import SERIES, name_rows, new_figure
from invariant_sharpness.results.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BARS = 30
"""More groups than this are not drawn: the picture shows the largest."""


def plot_groups(estimate: Estimate, axes: Axes | None = None) -> Axes:
    """Draw horizontal bars: the contribution of each parameter group to a metric, with the standard errors of sampled ones.

    Parameters
    ----------
    estimate
        The estimate of a metric that is a sum over parameter groups.
    axes
        The axes to draw in; by default those of a new figure, which is ``plot_groups(estimate).figure``.

    Returns
    -------
    Axes
        The axes with the picture.

    Raises
    ------
    ArgumentError
        If the metric has no contribution per group; names the metric.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> axes = plot_groups(ish.hessian_trace(quadratic(np.diag([1.0, 2.0]), [[3.0, 4.0]])))
    >>> [float(bar.get_width()) for bar in axes.patches]
    [3.0]
    """
    title = f"{estimate.name} = {estimate.value:.4g}"
    return plot_groups_together({title: estimate}, axes)


def plot_groups_together(estimates: Mapping[str, Estimate], axes: Axes | None = None) -> Axes:
    """Draw the bars of :func:`plot_groups` for several estimates of one metric, side by side.

    Parameters
    ----------
    estimates
        The estimates, by the title of each.
    axes
        The axes to draw in; by default those of a new figure.

    Returns
    -------
    Axes
        The axes with the picture.

    Raises
    ------
    ArgumentError
        If one of them has no contribution per group, or they have different groups.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> sharp, flat = (ish.hessian_trace(quadratic(h * np.eye(2), [[3.0, 4.0]])) for h in (2.0, 1.0))
    >>> axes = plot_groups_together({"sharp": sharp, "flat": flat})
    >>> [float(bar.get_width()) for bar in axes.patches]
    [4.0, 2.0]
    """
    names = _common_groups(estimates)
    shown = _largest(names, estimates)
    if axes is None:
        axes = new_figure(7.2, 1.0 + 0.3 * len(shown) * len(estimates) ** 0.5).add_subplot()
    height = 0.75 / len(estimates)
    for index, (title, estimate) in enumerate(estimates.items()):
        contributions = [estimate.per_group[name] for name in shown]
        axes.barh(
            [position + (index - (len(estimates) - 1) / 2) * height for position in range(len(shown))],
            [contribution.value for contribution in contributions],
            height=0.9 * height,
            xerr=[one.standard_error or 0.0 for one in contributions] if _is_sampled(estimate) else None,
            error_kw={"elinewidth": 1.2, "capsize": 3, "ecolor": "0.2"},
            color=SERIES[index % len(SERIES)],
            label=title,
        )
    name_rows(axes, shown)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_title(_title(estimates, len(shown), len(names)), fontsize="medium", loc="left", parse_math=False)
    axes.set_xlabel(_label(estimates))
    if len(estimates) > 1:
        legend = axes.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return axes


def _label(estimates: Mapping[str, Estimate]) -> str:
    return "contribution of the group" + (", ± standard error" if any(map(_is_sampled, estimates.values())) else "")


def _common_groups(estimates: Mapping[str, Estimate]) -> list[str]:
    for estimate in estimates.values():
        if not estimate.per_group:
            msg = (
                f"{estimate.name} has no value per parameter group, so there are no bars to draw: "
                f"take a metric that is a sum over the groups, such as normalized_sharpness"
            )
            raise ArgumentError(msg)
    first, *others = [list(estimate.per_group) for estimate in estimates.values()]
    if any(other != first for other in others):
        msg = f"the estimates {', '.join(estimates)} have different parameter groups: draw each for itself"
        raise ArgumentError(msg)
    return first


def _largest(names: Sequence[str], estimates: Mapping[str, Estimate]) -> list[str]:
    """Choose the groups that are shown, in the order of the model."""

    def size(name: str) -> float:
        return max(abs(estimate.per_group[name].value) for estimate in estimates.values())

    kept = set(sorted(names, key=size, reverse=True)[:MOST_BARS])
    return [name for name in names if name in kept]


def _is_sampled(estimate: Estimate) -> bool:
    return any(one.standard_error is not None for one in estimate.per_group.values())


def _title(estimates: Mapping[str, Estimate], shown: int, groups: int) -> str:
    title = next(iter(estimates)) if len(estimates) == 1 else next(iter(estimates.values())).name
    return title if shown == groups else f"{title}\nthe {shown} largest of {groups} groups"
