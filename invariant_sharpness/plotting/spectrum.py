"""A picture of the density of the eigenvalues of a Hessian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from invariant_sharpness.plotting.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HostArray = npt.NDArray[np.float64]

_COLOR = "#0072B2"
_FEWEST = 1e-3
"""The vertical axis starts where this fraction of one eigenvalue would peak."""


class Curve(Protocol):
    """A function of the eigenvalue with standard errors, such as :class:`invariant_sharpness.estimators.SpectralCurve`."""

    @property
    def grid(self) -> HostArray:
        """The eigenvalues."""
        ...

    @property
    def values(self) -> HostArray:
        """The function there."""
        ...

    @property
    def standard_errors(self) -> HostArray:
        """Its standard errors."""
        ...

    @property
    def width(self) -> float:
        """The width of the Gaussian that smooths each eigenvalue."""
        ...


class Spectrum(Protocol):
    """A distribution of eigenvalues, such as :class:`invariant_sharpness.SpectralDensity`."""

    @property
    def size(self) -> int:
        """The number of all eigenvalues."""
        ...

    def density(self) -> Curve:
        """The fraction of eigenvalues per unit of the eigenvalue."""
        ...


def plot_density(spectrum: Spectrum, axes: Axes | None = None) -> Axes:
    """Draw the density of the eigenvalues on a logarithmic scale, with a band of one standard error.

    Parameters
    ----------
    spectrum
        The eigenvalues, as from :func:`invariant_sharpness.spectral_density`.
    axes
        The axes to draw in; by default those of a new figure, which is ``plot_density(spectrum).figure``.

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
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic([[3.0, 0.0], [0.0, 1.0]], [[1.0, 1.0]])
    >>> axes = plot_density(ish.spectral_density(oracle, probes=4, steps=2))
    >>> axes.get_yscale(), axes.get_ylabel()
    ('log', 'density, ± standard error')
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
