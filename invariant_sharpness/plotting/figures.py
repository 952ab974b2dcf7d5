"""Figures without a window, and the rows of names that bars and marks stand in."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from invariant_sharpness.errors import missing_dependency

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The colors of several models, which can be told apart without red and green."""

_LONGEST_NAME = 48
_SIGNS_PER_INCH = 22


def new_figure(width: float, height: float) -> Figure:
    """Make a matplotlib figure of this size in inches, which belongs to no window and can be saved anywhere.

    Parameters
    ----------
    width, height
        The size in inches.

    Returns
    -------
    Figure
        The empty figure.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> new_figure(4.0, 3.0).get_size_inches().tolist()
    [4.0, 3.0]
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as cause:
        error = missing_dependency("matplotlib", "plot", "a picture")
        raise error from cause
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def signed(axes: Axes, signature: str) -> Axes:
    """Write the signature of the numbers below the picture, in small letters, if there is one; return the axes."""
    figure = axes.get_figure(root=True)
    if figure is not None and signature:
        lines = textwrap.wrap(signature, round(_SIGNS_PER_INCH * figure.get_figwidth()))
        figure.supxlabel("\n".join(lines), fontsize=5, color="0.45", parse_math=False)
    return axes


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Label one row per name, the first on top. Names are the user's text: no formulas, not too long, on one line."""
    axes.set_yticks(range(len(names)), labels=[_shortened(name) for name in names], parse_math=False, fontsize="small")
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _shortened(name: str) -> str:
    """Return the name on one line, with its middle left out if it is long: both ends tell groups apart."""
    line = "".join(character if character.isprintable() else " " for character in name)
    if len(line) <= _LONGEST_NAME:
        return line
    end = _LONGEST_NAME // 2
    return f"{line[: _LONGEST_NAME - end - 1]}…{line[-end:]}"
