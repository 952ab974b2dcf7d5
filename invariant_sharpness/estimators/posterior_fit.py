r"""The scales of Gaussian noise that minimize (62) of Tsuzuku, Sato and Sugiyama (2019), for noise that is drawn once.

The variances :math:`(\sigma_i \sigma'_j)^2` of each weight start at the minimizer of (17) and move away from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import NamedTuple

import numpy as np
from scipy.optimize import Bounds, minimize

from invariant_sharpness import prng as random
from invariant_sharpness.parameters.matrices import HostArray, LayerMatrix
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.folder import Snapshot
from invariant_sharpness.runtime.identity import digest
from invariant_sharpness.runtime.loop import Loop, recall
from invariant_sharpness.solvers.rows_columns import solve

_POLISH = 1e-26  # the error of a scale is the root of the gap of the value


@dataclass(frozen=True, slots=True)
class LayerScales:
    r"""The scales of one weight.

    Parameters
    ----------
    layer
        The weight as matrices.
    start
        Variances to start from, of shape (blocks, rows, columns); zero in cells that get no noise.
    penalties
        :math:`W^2 / (2\lambda)` of the same cells, zero where there is no noise.
    """

    layer: LayerMatrix
    start: HostArray
    penalties: HostArray

    @property
    def size(self) -> int:
        """How many numbers say where the scales are: one per row and one per column."""
        blocks, rows, columns = self.start.shape
        return blocks * (rows + columns)

    def variances(self, point: HostArray) -> HostArray:
        """The variances, for changes of the logarithms of the rows' and then of the columns' squared scales."""
        blocks, rows, columns = self.start.shape
        x, y = point[: blocks * rows].reshape(blocks, rows, 1), point[blocks * rows :].reshape(blocks, 1, columns)
        return self.start * np.exp(x + y)

    def costs(self, variances: HostArray) -> HostArray:
        """The penalty of each cell."""
        return np.divide(self.penalties, variances, out=np.zeros_like(variances), where=variances > 0)

    def slope(self, cells: HostArray) -> HostArray:
        """The derivative in all rows and columns, from that in the logarithm of each variance."""
        return np.concatenate([cells.sum(axis=2).ravel(), cells.sum(axis=1).ravel()])


def best_scales(layer: LayerMatrix, weights: HostArray, curvature: HostArray, lam: float) -> LayerScales:
    r"""Find the minimizer of :math:`\sum_{ij} \tfrac12 h_{ij} v_{ij} + W_{ij}^2 / (2\lambda v_{ij})`: (17), with its factor one half.

    Where the minimum is not attained, as for dead units, which cost nothing, there is no noise.
    """
    # (17) of each matrix: curvature and penalties
    a = layer.matrices({layer.weight.name: np.clip(curvature, 0, None)}) / 2
    b = layer.matrices({layer.weight.name: weights**2}) / (2 * lam)
    solutions = [solve(x, y, tolerance=_POLISH) for x, y in zip(a, b, strict=True)]
    # its minimizer as variances, where it is attained
    within = np.stack([s.within_components for s in solutions])
    return LayerScales(layer, np.stack([s.variances for s in solutions]), np.where(within, b, 0.0))


_REACH = 10.0
"""How far the logarithm of a squared scale may move, so that a loss which does not rise leads to no overflow."""


class Fit(NamedTuple):
    """Where the minimizer stopped, whether it reached its tolerance, and whether a scale grew to the end of its range."""

    point: HostArray
    converged: bool
    ran_off: bool = False


class SampledObjective:
    r"""(62) with fixed draws, as a function of the changes of all logarithms of squared scales.

    .. math:: \frac1n \sum_\epsilon \tfrac12 \bigl[ L(\theta + \sigma \circ \epsilon) + L(\theta - \sigma \circ \epsilon) \bigr] - L(\theta)
        + \sum_{ij} \frac{W_{ij}^2}{2\lambda v_{ij}}, \qquad v_{ij} = \sigma_{ij}^2 .

    The derivative of :math:`L(\theta \pm \sigma \circ \epsilon)` in :math:`\ln v_{ij}` is :math:`\pm\tfrac12 \sigma_{ij} \epsilon_{ij} g_{ij}`
    with the gradient g at the perturbed point. Cost of a call: two losses and two gradients per draw.

    Parameters
    ----------
    oracle
        The oracle of the loss.
    layers
        The weights that get noise.
    draws, seed
        Numbers and seed of the draws of the noise.
    """

    def __init__(self, oracle: CurvatureOracle, layers: Sequence[LayerScales], draws: range, seed: int) -> None:
        self._oracle = oracle
        self._layers = layers
        self._draws = draws
        self._seed = seed
        self._loss_without_noise = oracle.loss(oracle.parameters)
        self.start = np.zeros(sum(layer.size for layer in layers))
        settings = self.deviations(self.start), self.penalty(self.start), draws, seed
        self._loop = Loop("fitting the noise", oracle, settings, order=1)

    def __call__(self, point: HostArray) -> tuple[float, HostArray]:
        """The value and the slope; the minimizer of a run that goes on comes to the same points again, and finds them."""

        def compute() -> Snapshot:
            value, slope = self._evaluated(point)
            return Snapshot({"value": np.array(value), "slope": slope})

        found = recall(self._loop, digest({"point": point}), compute).arrays
        return float(found["value"]), found["slope"]

    def _evaluated(self, point: HostArray) -> tuple[float, HostArray]:
        loss, slopes = self._mean_loss(self.deviations(point))
        derivatives = []
        for scales, variances in self._variances(point):
            cells = scales.layer.matrices(slopes) - scales.costs(variances)
            derivatives.append(scales.slope(cells))
        return loss - self._loss_without_noise + self.penalty(point), np.concatenate(derivatives)

    def penalty(self, point: HostArray) -> float:
        """The second term."""
        return fsum(float(scales.costs(variances).sum()) for scales, variances in self._variances(point))

    def deviations(self, point: HostArray) -> ParameterVector:
        """The standard deviation of every parameter; zero for those that get no noise."""
        arrays = {group.name: np.zeros(group.shape) for group in self._oracle.groups}
        for scales, variances in self._variances(point):
            arrays |= scales.layer.arrays(np.sqrt(variances))
        return self._oracle.from_numpy(arrays)

    def _variances(self, point: HostArray) -> list[tuple[LayerScales, HostArray]]:
        ends = np.cumsum([layer.size for layer in self._layers])[:-1]
        parts = np.split(point, ends)
        return [(layer, layer.variances(part)) for layer, part in zip(self._layers, parts, strict=True)]

    def _mean_loss(self, deviations: ParameterVector) -> tuple[float, dict[str, HostArray]]:
        """The mean of the perturbed losses, and its derivative in the logarithm of every variance."""
        oracle, here = self._oracle, self._oracle.parameters
        losses, slopes = [], deviations * 0.0
        for index in self._draws:
            noise = deviations * random.normals(oracle, self._seed, index)
            for step in (noise, -noise):
                losses.append(oracle.loss(here + step))
                slopes = slopes + step * oracle.gradient(here + step)
        derivatives = oracle.to_numpy(slopes)
        return fsum(losses) / len(losses), {name: s / (2 * len(losses)) for name, s in derivatives.items()}


def fitted_scales(objective: SampledObjective, *, tolerance: float, max_iterations: int) -> Fit:
    """Minimize by L-BFGS-B, from the minimizer of (17), until a step lowers the objective by less than ``tolerance`` of its start."""
    unit = 2 * objective.penalty(objective.start)  # at the minimum of (17) both terms are equal
    if unit == 0:
        return Fit(objective.start, converged=True)

    def relative(point: HostArray) -> tuple[float, HostArray]:
        value, slope = objective(point)
        return value / unit, slope / unit

    found = minimize(
        relative,
        objective.start,
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(-_REACH, _REACH),
        options={"ftol": tolerance, "gtol": tolerance, "maxiter": max_iterations},
    )
    # Rounding of the loss stops the line search where there is nothing left to gain.
    to_gain = found.jac @ (found.hess_inv @ found.jac) / 2
    return Fit(np.asarray(found.x), bool(found.success or to_gain < tolerance), bool(np.any(found.x >= _REACH)))
