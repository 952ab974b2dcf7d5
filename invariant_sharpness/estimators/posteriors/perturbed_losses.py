"""The loss of a network whose parameters are perturbed by Gaussian noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from invariant_sharpness import probes as random
from invariant_sharpness.coordinates.blocks import HostArray
from invariant_sharpness.progress import track
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector


def perturbed_losses(
    oracle: CurvatureOracle,
    deviations: ParameterVector,
    draws: range,
    seed: int,
    loss: Callable[[ParameterVector], float],
) -> HostArray:
    r"""One number per draw, :math:`\tfrac12 L(\theta + \sigma \circ \epsilon) + \tfrac12 L(\theta - \sigma \circ \epsilon)`.

    Their mean estimates :math:`E_\epsilon[L(\theta + \sigma \circ \epsilon)]` without bias. A pair has no terms of odd order, so the
    gradient at :math:`\theta` adds nothing to the scatter. Cost: two losses per draw.
    """
    point = oracle.parameters
    found = []
    for index in track(draws, "perturbed losses", len(draws), gradients=2 / 3):
        noise = deviations * random.normals(oracle, seed, index)
        found.append((loss(point + noise) + loss(point - noise)) / 2)
    return np.array(found)
