"""What an oracle says of single examples: their outputs with the Jacobian and its transpose, and moments of their gradients."""

from __future__ import annotations

import numpy as np

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import cotangents
from invariant_sharpness.protocol import (
    CurvatureOracle,
    ExampleGradientOracle,
    JacobianOracle,
    Rows,
    capability,
    machine_epsilon,
)
from invariant_sharpness.testing.differences import (
    NATURAL_SIZE,
    Agreement,
    agreement_by_group,
    compared_entries,
    persists,
    tolerance_of_differences,
    tolerance_of_rounding,
)
from invariant_sharpness.testing.points import nearby_point, scaled_signs, unit_vector
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures

_EXAMPLES = 8
_DIRECTIONS_OF_OUTPUTS = 2
_DIRECTIONS_OF_MOMENTS = 3


def check_jacobian(oracle: CurvatureOracle, seed: int) -> Figures:
    r"""Check that ``jacobian_vector_product`` is the derivative of ``outputs``, and ``vector_jacobian_product`` its transpose.

    That is :math:`c \cdot J v = v \cdot J^T c`, on the first eight examples, in two random directions. Cost: about 36
    evaluations of these.
    """
    able = capability(oracle, JacobianOracle)
    if able is None:
        msg = "the oracle does not show its outputs; what works on the outputs' Jacobian is not available"
        raise CheckSkippedError(msg)
    point = nearby_point(oracle, seed)
    directions = [scaled_signs(oracle, seed, k) for k in range(_DIRECTIONS_OF_OUTPUTS)]
    errors = [_derivative_error(able, point, u, seed) for u in directions]
    return {"relative_error": max(errors), "asymmetry": _asymmetry(able, point, seed)}


def check_second_moments(oracle: CurvatureOracle, seed: int) -> Figures:
    r"""Check that ``directional_second_moment`` is ``gradient_second_moment`` along a parameter, and never below the mean's square.

    A mean of squares is at least the square of the mean, :math:`E_n[(u \cdot g_n)^2] \ge (u \cdot g)^2`, but not so of sums, of which
    this is not asked. The largest and a random
    entry of up to six groups, three random directions and the gradient. Cost: about 30 gradients.
    """
    able = capability(oracle, ExampleGradientOracle)
    if able is None:
        msg = "the oracle cannot tell the examples apart; fisher_rao_norm is not available"
        raise CheckSkippedError(msg)
    point = nearby_point(oracle, seed)
    error = _entry_error(able, point, seed)
    if getattr(oracle, "reduction", "mean") == "sum":
        return {"relative_error": error}
    return {"relative_error": error, "least_ratio_to_mean": _least_ratio(able, point, seed)}


def _derivative_error(able: JacobianOracle, point: ParameterVector, u: ParameterVector, seed: int) -> float:
    def elsewhere(number: int) -> Agreement:
        other = seed + 1 + number
        return _outputs_along(able, nearby_point(able, other), scaled_signs(able, other, _DIRECTIONS_OF_OUTPUTS))

    agreement, tolerance = _outputs_along(able, point, u), tolerance_of_differences(machine_epsilon(able))
    if agreement.fits(tolerance) or not persists(elsewhere, tolerance):
        return agreement.error
    msg = (
        f"jacobian_vector_product is not the derivative of outputs: they differ by {agreement.error:.2g}, where differences "
        f"are certain to {agreement.uncertainty:.1g}. Check that both take the same examples in the same order, and the "
        f"parameters that they are given"
    )
    raise CheckFailedError(msg, {"relative_error": agreement.error})


def _outputs_along(able: JacobianOracle, point: ParameterVector, u: ParameterVector) -> Agreement:
    def vector(outputs: Rows) -> ParameterVector:
        return ParameterVector(np, {"outputs": outputs})

    derivative, eps = vector(able.jacobian_vector_product(point, u, _EXAMPLES)), machine_epsilon(able)
    found = agreement_by_group(
        lambda step: vector(able.outputs(point + step * u, _EXAMPLES)), derivative, eps, floor=NATURAL_SIZE
    )
    return found["outputs"]


def _asymmetry(able: JacobianOracle, point: ParameterVector, seed: int) -> float:
    u = scaled_signs(able, seed, 0)
    Ju = able.jacobian_vector_product(point, u, _EXAMPLES)
    c = cotangents(seed, Ju.shape)
    Jc = able.vector_jacobian_product(point, c)
    size = max(float(np.linalg.norm(Ju)), (magnitudes(able) * Jc).norm())
    difference = abs(float(np.sum(c * Ju)) - u.dot(Jc))
    asymmetry = difference / size if difference > 0 else 0.0
    if asymmetry > tolerance_of_rounding(machine_epsilon(able)):
        msg = (
            f"vector_jacobian_product is not the transpose of jacobian_vector_product: c.Jv and v.Jc differ by {asymmetry:.2g} "
            f"of |Jv|. Add the examples up, without weights and without dividing by their number"
        )
        raise CheckFailedError(msg, {"asymmetry": asymmetry})
    return asymmetry


def _entry_error(able: ExampleGradientOracle, point: ParameterVector, seed: int) -> float:
    moments = able.to_numpy(able.gradient_second_moment(point))
    worst, tolerance = 0.0, tolerance_of_rounding(machine_epsilon(able))
    compared = compared_entries(
        able, moments, lambda entry: able.directional_second_moment(point, unit_vector(able, entry)), seed
    )
    for (name, index), moment, along, error in compared:
        worst = max(worst, error)
        if error > tolerance:
            msg = (
                f"gradient_second_moment is {moment:.6g} in {name!r} at {index}, but directional_second_moment along that "
                f"parameter is {along:.6g}. Both are means of squares over the examples, with the weights of the loss"
            )
            raise CheckFailedError(msg, {"relative_error": error})
    return worst


def _least_ratio(able: ExampleGradientOracle, point: ParameterVector, seed: int) -> float:
    """Return the least of ``E[(u . g_n)^2] / (u . g)^2``, which is at least one."""
    gradient, scale = able.gradient(point), magnitudes(able)
    random = [scaled_signs(able, seed, k) for k in range(_DIRECTIONS_OF_MOMENTS)]
    directions = [scale * scale * gradient, *random]
    ratios = [able.directional_second_moment(point, u) / mean**2 for u in directions if (mean := gradient.dot(u)) != 0]
    least = min(ratios, default=np.inf)
    if least < 1 - tolerance_of_rounding(machine_epsilon(able)):
        msg = (
            f"directional_second_moment is {least:.3g} times the square of the mean slope, but a mean of squares is at least "
            f"the square of the mean. Average over examples, not over batches, with the weights of the loss"
        )
        raise CheckFailedError(msg, {"least_ratio_to_mean": least})
    return least
