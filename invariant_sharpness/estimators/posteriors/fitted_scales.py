"""The scales of Gaussian noise that minimize (62) of Tsuzuku, Sato and Sugiyama (2019), for noise that is drawn once."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from typing import NamedTuple

import numpy as np
from scipy.optimize import Bounds, minimize

from invariant_sharpness import probes as random
from invariant_sharpness.checkpoints import State, keep, loop_name, resumed
from invariant_sharpness.checkpoints.identity import digest
from invariant_sharpness.coordinates.blocks import HostArray
from invariant_sharpness.estimators.posteriors.layer_scales import LayerScales
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector

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
        The network.
    layers
        The weights that get noise.
    draws, seed
        Which noise.
    """

    def __init__(self, oracle: CurvatureOracle, layers: Sequence[LayerScales], draws: range, seed: int) -> None:
        self._oracle = oracle
        self._layers = layers
        self._draws = draws
        self._seed = seed
        self._loss_without_noise = oracle.loss(oracle.parameters)
        self.start = np.zeros(sum(layer.size for layer in layers))
        chosen = self.deviations(self.start), self.penalty(self.start), draws, seed
        self._loop = loop_name("fitting the noise", oracle, oracle.parameters, *chosen)

    def __call__(self, point: HostArray) -> tuple[float, HostArray]:
        """The value and the slope; a checkpoint keeps them, as the minimizer comes to the same points again."""
        step = f"{self._loop} {digest({'point': point})}"
        state = resumed(step)
        if state is not None:
            return float(state.arrays["value"]), state.arrays["slope"]
        value, slope = self._evaluated(point)
        keep(step, lambda: State({"value": np.array(value), "slope": slope}))
        return value, slope

    def _evaluated(self, point: HostArray) -> tuple[float, HostArray]:
        loss, slopes = self._mean_loss(self.deviations(point))
        derivatives = []
        for layer, variances in self._variances(point):
            cells = layer.family.blocks(slopes) - layer.costs(variances)
            derivatives.append(layer.slope(cells))
        return loss - self._loss_without_noise + self.penalty(point), np.concatenate(derivatives)

    def penalty(self, point: HostArray) -> float:
        """The second term."""
        return fsum(float(layer.costs(variances).sum()) for layer, variances in self._variances(point))

    def deviations(self, point: HostArray) -> ParameterVector:
        """The standard deviation of every parameter; zero for those that get no noise."""
        arrays = {group.name: np.zeros(group.shape) for group in self._oracle.groups}
        for layer, variances in self._variances(point):
            arrays |= layer.family.arrays(np.sqrt(variances))
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


def fitted_scales(objective: SampledObjective, *, tolerance: float, steps: int) -> Fit:
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
        options={"ftol": tolerance, "gtol": tolerance, "maxiter": steps},
    )
    return Fit(np.asarray(found.x), bool(found.success), bool(np.any(found.x >= _REACH)))
