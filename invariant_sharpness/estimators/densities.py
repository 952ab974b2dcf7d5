"""What stochastic Lanczos quadrature says of the spectrum: densities, moments, norms and traces of functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.bases import HostArray
from invariant_sharpness.estimators.gauss_rules import GaussRule, Projection, gauss_rule, rules_with_the_same_moments
from invariant_sharpness.estimators.hutchinson import Samples, mean_estimate
from invariant_sharpness.plotting import plot_density
from invariant_sharpness.results.estimate import Bracket, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True, eq=False)
class SpectralCurve:
    """A function of the eigenvalue, with standard errors over the probes.

    Parameters
    ----------
    grid
        Eigenvalues, in ascending order.
    values, standard_errors
        The function there, and its standard error over the probes.
    width
        Standard deviation of the Gaussian that smooths each eigenvalue; zero for none.

    Examples
    --------
    >>> import numpy as np
    >>> print(SpectralCurve(np.array([0.0, 1.0]), np.array([0.5, 1.0]), np.zeros(2), 0.0))
    2 points from 0 to 1, not smoothed
    """

    grid: HostArray
    values: HostArray
    standard_errors: HostArray
    width: float

    def __str__(self) -> str:
        smoothed = f"smoothed by a Gaussian of width {self.width:.2g}" if self.width else "not smoothed"
        return f"{len(self.grid)} points from {self.grid[0]:.6g} to {self.grid[-1]:.6g}, {smoothed}"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        arrays = {"grid": self.grid, "values": self.values, "standard_errors": self.standard_errors}
        return {name: array.tolist() for name, array in arrays.items()} | {"width": self.width}


_GRID_POINTS = 512

_ROUNDING = 1e-6
"""Rules whose results differ by a smaller fraction do not differ."""


@dataclass(frozen=True, slots=True, eq=False)
class SpectralDensity:
    """The distribution of all eigenvalues: some that are known, and the others as random vectors see them.

    Standard errors are those of sampling, over the probes. How far the quadrature can be off is told by the bracket
    of an estimate, which its interval contains.

    Parameters
    ----------
    projections
        The tridiagonal matrix and coupling that Lanczos' method found from each probe.
    known
        Eigenvalues that are known, and not probed.
    size
        Number of all eigenvalues.

    Examples
    --------
    Two steps suffice for a matrix of two eigenvalues, whose squares add up to 10:

    >>> from invariant_sharpness.estimators import spectral_density
    >>> from invariant_sharpness_numpy import quadratic
    >>> density = spectral_density(quadratic([[3.0, 0.0], [0.0, 1.0]], [[1.0, 1.0]]), probes=4, steps=2)
    >>> round(density.trace_of(lambda eigenvalues: eigenvalues**2).value, 6)
    10.0
    """

    projections: tuple[Projection, ...]
    known: HostArray
    size: int

    def __str__(self) -> str:
        low, high = self.support
        return f"{self.size} eigenvalues from {low:.6g} to {high:.6g} ({self._method})"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists: the nodes and weights of every probe."""
        rules = [{"nodes": rule.nodes.tolist(), "weights": rule.weights.tolist()} for rule in self.rules]
        return {"size": self.size, "known": self.known.tolist(), "steps": self.steps, "rules": rules}

    @property
    def steps(self) -> int:
        """Lanczos steps of a probe."""
        return max(len(projection.matrix) for projection in self.projections)

    @property
    def rules(self) -> tuple[GaussRule, ...]:
        """The Gauss rule of each probe, for the eigenvalues that are not known."""
        return tuple(gauss_rule(projection.matrix) for projection in self.projections)

    @property
    def support(self) -> tuple[float, float]:
        """The smallest and the largest node or known eigenvalue. A few eigenvalues can lie outside, and none of the nodes."""
        nodes = np.concatenate([self.known, *(rule.nodes for rule in self.rules)])
        return float(nodes.min()), float(nodes.max())

    def trace_of(
        self, function: Callable[[HostArray], HostArray], *, kink: float = 0.0, name: str = "trace of a function"
    ) -> Estimate:
        r"""The sum of a function over all eigenvalues, :math:`\operatorname{tr} f(H)`.

        Its value is in the middle of the bracket. It has converged if the bracket reaches no further than the standard error.

        Parameters
        ----------
        function
            A function of an array of numbers, elementwise. Nodes can lie outside of the spectrum.
        kink
            The place where the function is not smooth.
        name
            Name of the estimate.

        Returns
        -------
        Estimate
            The sum, with the standard error of sampling and the bracket of the quadrature.
        """
        values = [
            [float(rule.weights @ function(rule.nodes)) for rule in rules_with_the_same_moments(projection, kink)]
            for projection in self.projections
        ]
        lower, upper = np.array([min(row) for row in values]), np.array([max(row) for row in values])
        return self._total(name, float(np.sum(function(self.known))), lower, upper)

    def moment(self, order: int) -> Estimate:
        r"""The mean of :math:`\lambda^k` over all eigenvalues.

        Parameters
        ----------
        order
            The power k.

        Returns
        -------
        Estimate
            The mean, with a standard error.

        Raises
        ------
        ArgumentError
            If k is not from 0 to twice the number of steps, less one: there the quadrature is exact.
        """
        if not 0 <= order < 2 * self.steps:
            msg = f"order={order}, but {self.steps} steps tell the moments from 0 to {2 * self.steps - 1}: take more steps"
            raise ArgumentError(msg)
        draws = np.array([rule.weights @ rule.nodes**order for rule in self.rules]) / self.size
        return self._total(f"spectral moment {order}", float(np.sum(self.known**order)) / self.size, draws, draws)

    def schatten_norm(self, p: float) -> Estimate:
        r"""The norm :math:`(\sum_i |\lambda_i|^p)^{1/p}`: nuclear for p = 1, Frobenius for p = 2; its error to first order.

        Parameters
        ----------
        p
            The order of the norm.

        Returns
        -------
        Estimate
            The norm, with a standard error and the bracket of the quadrature.

        Raises
        ------
        ArgumentError
            If p is not from 1 to infinity.
        """
        if not 1 <= p < np.inf:
            msg = f"p={p}, but p is at least 1 and finite: take hessian_spectral_norm for the largest magnitude"
            raise ArgumentError(msg)
        power = self.trace_of(lambda values: np.abs(values) ** p, name=f"schatten_norm({p:g})")
        value = power.value ** (1 / p)
        return replace(
            power,
            value=value,
            standard_error=value / p * (power.standard_error or 0.0) / power.value if power.value else 0.0,
            bracket=None if power.bracket is None else Bracket(*(side ** (1 / p) for side in power.bracket)),
        )

    def density(self, grid: HostArray | None = None, *, width: float | None = None) -> SpectralCurve:
        """The fraction of eigenvalues per unit of the eigenvalue, each smoothed by a Gaussian.

        Parameters
        ----------
        grid
            The eigenvalues of the curve; by default 512 points over all nodes and three widths beyond.
        width
            Standard deviation of the Gaussian. By default the range of the nodes over the number of steps: with much
            less, the density shows single nodes.

        Returns
        -------
        SpectralCurve
            The density; its integral is 1.
        """
        low, high = self.support
        if width is None:
            width = (high - low or abs(high) or 1.0) / self.steps
        if grid is None:
            grid = np.linspace(low - 3 * width, high + 3 * width, _GRID_POINTS)
        peaks = width * np.sqrt(2 * np.pi)
        return self._curve(grid, lambda nodes: np.exp(-(((grid[:, None] - nodes) / width) ** 2) / 2) / peaks, width)

    def cumulative(self, grid: HostArray | None = None) -> SpectralCurve:
        """The fraction of eigenvalues up to each point of the grid.

        Parameters
        ----------
        grid
            The eigenvalues of the curve; by default all nodes.

        Returns
        -------
        SpectralCurve
            A curve from near 0 to 1.
        """
        if grid is None:
            grid = np.unique(np.concatenate([self.known, *(rule.nodes for rule in self.rules)]))
        return self._curve(grid, lambda nodes: (nodes <= grid[:, None]).astype(float), 0.0)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the density on a logarithmic scale, with a band of one standard error.

        Parameters
        ----------
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
        """
        return plot_density(self, axes)

    @property
    def _method(self) -> str:
        known = f", {len(self.known)} eigenvalues known" if len(self.known) else ""
        return f"Lanczos quadrature, {len(self.projections)} probes of {self.steps} steps{known}"

    def _total(self, name: str, known: float, lower: Samples, upper: Samples) -> Estimate:
        """What is known, and as many times the mean of the probes as there are other eigenvalues."""
        others = self.size - len(self.known)
        result = mean_estimate(name, known + others * (lower + upper) / 2, self._method)
        bracket = Bracket(known + others * float(lower.mean()), known + others * float(upper.mean()))
        reach = (bracket.upper - bracket.lower) / 2
        if reach <= _ROUNDING * abs(result.value):
            return result
        if reach <= (result.standard_error or 0.0):
            return replace(result, bracket=bracket)
        note = f"the quadrature can be off by {reach:.2g}, more than the standard error: take more steps"
        return replace(result, bracket=bracket, converged=False, notes=(note,))

    def _curve(self, grid: HostArray, shape: Callable[[HostArray], HostArray], width: float) -> SpectralCurve:
        """The mean over all eigenvalues of the shape that each has on the grid."""
        known = shape(self.known).sum(axis=1) / self.size
        rows = [shape(rule.nodes) @ rule.weights * (1 - len(self.known) / self.size) for rule in self.rules]
        errors = np.std(rows, axis=0, ddof=1) / np.sqrt(len(rows))
        return SpectralCurve(grid, known + np.mean(rows, axis=0), errors, width)
