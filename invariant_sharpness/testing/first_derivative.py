"""The gradient against differences of the loss."""

from __future__ import annotations

import numpy as np

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.testing.differences import Agreement, agreement_by_group
from invariant_sharpness.testing.points import nearby_point, precision, scaled_signs
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures
from invariant_sharpness.testing.tolerances import of_differences

_NATURAL_SIZE = 1.0
"""A loss is a difference of outputs of about this size: a small one has lost digits, and its rounding is not seen in it."""


def check_gradient(oracle: CurvatureOracle, seed: int) -> Figures:
    r"""The slope :math:`g \cdot u` is that of the loss along u: by steepest ascent, and in two random directions.

    Cost: one gradient and 45 losses; 15 more per group if it fails.
    """
    point = nearby_point(oracle, seed)
    gradient = oracle.gradient(point)
    directions = [_steepest(oracle, gradient), scaled_signs(oracle, seed, 0), scaled_signs(oracle, seed, 1)]
    judged = [a for u in directions if (a := _along(oracle, point, gradient, u)).judged]
    if not judged:
        msg = "the loss changes by no more than its rounding near the parameters, so its slope cannot be seen"
        raise CheckSkippedError(msg)
    worst = max(judged, key=lambda a: a.error - 3 * a.uncertainty)
    figures = {"relative_error": worst.error, "uncertainty": worst.uncertainty}
    if worst.fits(of_differences(precision(oracle))):
        return figures
    msg = (
        f"gradient(p) is not the derivative of loss(p): along a line the two differ by {worst.error:.2g} of the slope, "
        f"where differences are certain to {worst.uncertainty:.1g}{_blamed(oracle, point, gradient, seed)}. Check that both average "
        f"over the same examples with the same weights and use the parameters that they are given, and that nothing "
        f"between is detached: no_grad, stop_gradient, or an embedding's padding row that the loss depends on"
    )
    raise CheckFailedError(msg, figures)


def _along(oracle: CurvatureOracle, point: ParameterVector, gradient: ParameterVector, u: ParameterVector) -> Agreement:
    def loss(step: float) -> ParameterVector:
        return _number(oracle.loss(point + step * u))

    return agreement_by_group(loss, _number(gradient.dot(u)), precision(oracle), floor=_NATURAL_SIZE)["loss"]


def _blamed(oracle: CurvatureOracle, point: ParameterVector, gradient: ParameterVector, seed: int) -> str:
    """The group along which the two differ most, in words."""
    u = scaled_signs(oracle, seed, 0)
    found = {g.name: _along(oracle, point, gradient, u.only([g.name])) for g in oracle.groups}
    wrong = {n: a.error for n, a in found.items() if not a.fits(of_differences(precision(oracle)))}
    return f", and most of all along {max(wrong, key=lambda n: wrong[n])!r}" if wrong else ""


def _steepest(oracle: CurvatureOracle, gradient: ParameterVector) -> ParameterVector:
    """Steepest ascent in relative changes of the parameters, of which the largest is one."""
    scale = magnitudes(oracle)
    ascent = scale * gradient
    largest = max(float(oracle.xp.max(oracle.xp.abs(array))) for array in ascent.arrays.values())
    return scale * ascent / (largest if largest > 0 else 1.0)


def _number(value: float) -> ParameterVector:
    return ParameterVector(np, {"loss": np.asarray(value, dtype=np.float64)})
