"""How far metrics moved under the symmetries of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invariant_sharpness.plotting.figures import name_rows, new_figure
from invariant_sharpness.results.ratios import factor_text
from invariant_sharpness.results.records import Finding, Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_LEAST = 1e-17
"""Where no change at all stands on the logarithmic axis."""

_COLORS = {
    "holds": ("#0072B2", "claimed, holds"),
    "CLAIM FAILS": ("#CC0000", "claimed, FAILS"),
    "moves": ("#D55E00", "moves, no claim"),
    "stays": ("#009E73", "stays, no claim"),
    "no symmetry": ("0.4", "the loss moved"),
}


def plot_certificate(certificate: Records, axes: Axes | None = None) -> Axes:
    """Draw the largest relative change of each metric under each kind of symmetry, on a logarithmic scale.

    The factor by which a metric moved is written beside the mark of those that did. Metrics that could not be measured are left out.

    Parameters
    ----------
    certificate
        From :func:`invariant_sharpness.certify`.
    axes
        The axes to draw in; by default those of a new figure, which is ``plot_certificate(certificate).figure``.

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
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> network = ReluNetwork([np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]])], [np.zeros(2), np.zeros(1)])
    >>> oracle = NetworkOracle(network, np.array([[1.0]]), np.array([[0.0]]), loss="mse")
    >>> axes = plot_certificate(ish.certify(oracle, "hessian_trace"))
    >>> [label.get_text() for label in axes.get_yticklabels()]
    ['hessian_trace (row/column)', 'hessian_trace (layer)']
    """
    findings = [finding for finding in certificate.worst() if finding.verdict != "not measured"]
    if axes is None:
        axes = new_figure(7.6, 1.4 + 0.26 * len(findings)).add_subplot()
    axes.set_xscale("log")
    for row, finding in enumerate(findings):
        _draw(axes, row, finding)
    kinds = {finding.kind for finding in findings}
    name_rows(axes, [_name(finding, several=len(kinds) > 1) for finding in findings])
    axes.set_xlim(_LEAST / 3, 100)
    axes.set_xlabel("relative change under the symmetries of the model")
    axes.grid(visible=True, axis="x", color="0.92")
    axes.set_axisbelow(True)
    _explain_colors(axes, {finding.verdict for finding in findings})
    return axes


def _draw(axes: Axes, row: int, finding: Finding) -> None:
    color, change = _COLORS[finding.verdict][0], max(finding.change, _LEAST)
    axes.plot([_LEAST, change], [row, row], color=color, linewidth=1.6, zorder=2)
    axes.plot(change, row, "o", color=color, markersize=5, zorder=3)
    axes.plot([finding.tolerance] * 2, [row - 0.35, row + 0.35], color="0.5", linewidth=1.0, zorder=1)
    if finding.change > finding.tolerance:
        text = f"x {factor_text(finding.factor)}"
        axes.annotate(text, (change, row), xytext=(7, 0), textcoords="offset points", va="center", fontsize="small")


def _name(finding: Finding, *, several: bool) -> str:
    return f"{finding.metric} ({finding.kind.replace('_', '/')})" if several else finding.metric


def _explain_colors(axes: Axes, verdicts: set[str]) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=color, marker="o", linewidth=1.6, label=text)
        for verdict, (color, text) in _COLORS.items()
        if verdict in verdicts
    ]
    marks.append(Line2D([], [], color="0.5", linewidth=1.0, label="tolerance"))
    axes.legend(handles=marks, frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
