"""A picture of the spectrum, in the manner of :mod:`invariant_sharpness.plotting`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invariant_sharpness.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from invariant_sharpness.estimators.spectra.spectrum import SpectralDensity

_COLOR = "#0072B2"
_FEWEST = 1e-3
"""The vertical axis starts where this share of one eigenvalue would peak."""


def plot_density(spectrum: SpectralDensity, axes: Axes | None = None) -> Axes:
    """The density of the eigenvalues on a logarithmic scale, with a band of one standard error.

    Parameters
    ----------
    spectrum
        What is drawn.
    axes
        Where to draw; by default in a new figure.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    if axes is None:
        axes = new_figure(7.2, 3.6).add_subplot()
    curve = spectrum.density()
    lower, upper = curve.values - curve.standard_errors, curve.values + curve.standard_errors
    floor = _FEWEST / (spectrum.size * curve.width)
    axes.fill_between(curve.grid, lower.clip(floor), upper.clip(floor), color=_COLOR, alpha=0.25, linewidth=0)
    axes.plot(curve.grid, curve.values.clip(floor), color=_COLOR, linewidth=1.4)
    axes.set_yscale("log")
    axes.set_ylim(bottom=floor)
    axes.set_xlabel(f"eigenvalue (smoothed by a Gaussian of width {curve.width:.2g})")
    axes.set_ylabel("density, ± standard error")
    axes.set_title(str(spectrum), fontsize="medium", loc="left", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
