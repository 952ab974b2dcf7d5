"""The outputs' Jacobian: the derivative of the outputs, and its transpose."""

from __future__ import annotations

import numpy as np

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import cotangents
from invariant_sharpness.protocol import CurvatureOracle, JacobianOracle, Rows, require, supports
from invariant_sharpness.testing.differences import Agreement, agreement_by_group
from invariant_sharpness.testing.points import nearby_point, precision, scaled_signs
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures
from invariant_sharpness.testing.tolerances import of_differences, of_rounding

_EXAMPLES = 8
_DIRECTIONS = 2
_NATURAL_SIZE = 1.0
"""Outputs are made of activations of about this size: small ones have lost digits."""


def check_jacobian(oracle: CurvatureOracle, seed: int) -> Figures:
    r"""``jacobian_vector_product`` is the derivative of ``outputs``, and ``vector_jacobian_product`` is its transpose, :math:`c \cdot J v = v \cdot J^T c`.

    On the first eight examples, in two random directions. Cost: about 36 evaluations of these.
    """
    if not supports(oracle, JacobianOracle):
        msg = "the oracle does not show its outputs; what works on the outputs' Jacobian is not available"
        raise CheckSkippedError(msg)
    able = require(oracle, JacobianOracle, metric="check_jacobian")
    point = nearby_point(oracle, seed)
    errors = [_derivative_error(able, point, scaled_signs(oracle, seed, k)) for k in range(_DIRECTIONS)]
    return {"relative_error": max(errors), "asymmetry": _asymmetry(able, point, seed)}


def _derivative_error(able: JacobianOracle, point: ParameterVector, u: ParameterVector) -> float:
    agreement = _along(able, point, u)
    if agreement.fits(of_differences(precision(able))):
        return agreement.error
    msg = (
        f"jacobian_vector_product is not the derivative of outputs: they differ by {agreement.error:.2g}, where differences "
        f"are certain to {agreement.uncertainty:.1g}. Check that both take the same examples in the same order, and the "
        f"parameters that they are given"
    )
    raise CheckFailedError(msg, {"relative_error": agreement.error})


def _along(able: JacobianOracle, point: ParameterVector, u: ParameterVector) -> Agreement:
    def outputs(step: float) -> ParameterVector:
        return _vector(able.outputs(point + step * u, _EXAMPLES))

    derivative = _vector(able.jacobian_vector_product(point, u, _EXAMPLES))
    return agreement_by_group(outputs, derivative, precision(able), floor=_NATURAL_SIZE)["outputs"]


def _asymmetry(able: JacobianOracle, point: ParameterVector, seed: int) -> float:
    u = scaled_signs(able, seed, 0)
    Ju = able.jacobian_vector_product(point, u, _EXAMPLES)
    c = cotangents(seed, Ju.shape)
    Jc = able.vector_jacobian_product(point, c)
    size = max(float(np.linalg.norm(Ju)), (magnitudes(able) * Jc).norm())
    difference = abs(float(np.sum(c * Ju)) - u.dot(Jc))
    asymmetry = difference / size if difference > 0 else 0.0
    if asymmetry > of_rounding(precision(able)):
        msg = (
            f"vector_jacobian_product is not the transpose of jacobian_vector_product: c.Jv and v.Jc differ by {asymmetry:.2g} "
            f"of |Jv|. Add the examples up, without weights and without dividing by their number"
        )
        raise CheckFailedError(msg, {"asymmetry": asymmetry})
    return asymmetry


def _vector(rows: Rows) -> ParameterVector:
    return ParameterVector(np, {"outputs": rows})
