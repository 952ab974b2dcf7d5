"""The loss of a network whose parameters are perturbed by Gaussian noise, for the differentiable loss and the 0-1 loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.errors import DataError
from invariant_sharpness.parameters.matrices import HostArray
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, JacobianOracle, require
from invariant_sharpness.runtime.progress import track


def perturbed_losses(
    oracle: CurvatureOracle,
    deviations: ParameterVector,
    draws: range,
    seed: int,
    loss: Callable[[ParameterVector], float],
) -> HostArray:
    r"""One number per draw, :math:`\tfrac12 L(\theta + \sigma \circ \epsilon) + \tfrac12 L(\theta - \sigma \circ \epsilon)`.

    Their mean estimates :math:`E_\epsilon[L(\theta + \sigma \circ \epsilon)]` without bias. A pair has no terms of odd order, so the
    gradient at :math:`\theta` adds nothing to the sampling error. Cost: two losses per draw.
    """
    point = oracle.parameters
    found = []
    for index in track(draws, "perturbed losses", len(draws), gradients=2 / 3):
        noise = deviations * random.normals(oracle, seed, index)
        found.append((loss(point + noise) + loss(point - noise)) / 2)
    return np.array(found)


def zero_one_loss(oracle: CurvatureOracle, labels: npt.ArrayLike) -> Callable[[ParameterVector], float]:
    """The mean 0-1 loss as a function of the parameters: an example counts if its largest output is not that of its label.

    ``labels`` are those of all examples, in the order of the data.

    Raises
    ------
    DataError
        If there are not as many labels as examples, or a label is no class.
    MissingCapabilityError
        If the oracle does not show its outputs.
    """
    able = require(oracle, JacobianOracle, metric="zero_one_loss")
    expected = np.asarray(labels)
    if expected.ndim != 1:
        msg = f"labels have shape {expected.shape}, but there is one number for each example, (n,): take argmax(-1) of one-hot labels"
        raise DataError(msg)
    outputs = able.outputs(oracle.parameters, len(expected) + 1)
    if len(outputs) != len(expected):
        count = "more" if len(outputs) > len(expected) else len(outputs)
        msg = f"there are {len(expected)} labels and {count} examples: give one label per example, in the order of the data"
        raise DataError(msg)
    if not np.isin(expected, np.arange(outputs.shape[1])).all():
        msg = f"a label is not one of the {outputs.shape[1]} classes 0 to {outputs.shape[1] - 1}"
        raise DataError(msg)

    def loss(parameters: ParameterVector) -> float:
        return float(np.mean(np.argmax(able.outputs(parameters, len(expected)), axis=1) != expected))

    return loss
