"""Everything that an oracle can be asked, as functions of a point and a direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from invariant_sharpness.estimators.exact_diagonal import MOST_OUTPUTS
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    BlockProductOracle,
    CurvatureOracle,
    ExampleGradientOracle,
    GaussNewtonDiagonalOracle,
    GaussNewtonOracle,
    JacobianOracle,
    SampledGaussNewtonOracle,
    require,
    supports,
)

Evaluation = Callable[[ParameterVector, ParameterVector], Any]

_EXAMPLES = 8


def evaluations(oracle: CurvatureOracle) -> dict[str, Evaluation]:
    """The methods of the oracle, by name, those of its optional capabilities included."""
    found: dict[str, Evaluation] = {
        "loss": lambda p, _: oracle.loss(p),
        "gradient": lambda p, _: oracle.gradient(p),
        "hessian_vector_product": oracle.hessian_vector_product,
    }
    for optional in (_blocks, _gauss_newton, _gauss_newton_products, _sampled_outputs, _outputs, _example_gradients):
        found |= optional(oracle)
    return found


def on_host(oracle: CurvatureOracle, value: Any) -> list[np.ndarray[Any, Any]]:
    """A number, a vector or a tuple of them, as arrays that can be compared."""
    if isinstance(value, ParameterVector):
        return [np.array(array) for array in oracle.to_numpy(value).values()]
    if isinstance(value, tuple):
        return [array for part in value for array in on_host(oracle, part)]
    return [np.asarray(value)]


def _blocks(oracle: CurvatureOracle) -> dict[str, Evaluation]:
    if not supports(oracle, BlockProductOracle):
        return {}
    able = require(oracle, BlockProductOracle, metric="check_oracle")
    return {"hessian_vector_products": lambda p, u: tuple(able.hessian_vector_products(p, [u, p]))}


def _gauss_newton(oracle: CurvatureOracle) -> dict[str, Evaluation]:
    if not supports(oracle, GaussNewtonDiagonalOracle):
        return {}
    able = require(oracle, GaussNewtonDiagonalOracle, metric="check_oracle")
    names = frozenset(group.name for group in oracle.groups)
    found: dict[str, Evaluation] = {"output_curvature": lambda p, u: able.output_curvature(p, u, 0)}
    if able.outputs_per_example <= MOST_OUTPUTS:
        found["gauss_newton_diagonal"] = lambda p, _: able.gauss_newton_diagonal(p, names)
    return found


def _sampled_outputs(oracle: CurvatureOracle) -> dict[str, Evaluation]:
    if not supports(oracle, SampledGaussNewtonOracle):
        return {}
    able = require(oracle, SampledGaussNewtonOracle, metric="check_oracle")
    names = frozenset(group.name for group in oracle.groups)
    if not able.samples_outputs:
        return {}
    return {"sampled_gauss_newton_diagonal": lambda p, _: able.sampled_gauss_newton_diagonal(p, names, range(2), 0)}


def _gauss_newton_products(oracle: CurvatureOracle) -> dict[str, Evaluation]:
    if not supports(oracle, GaussNewtonOracle):
        return {}
    able = require(oracle, GaussNewtonOracle, metric="check_oracle")
    return {"gauss_newton_vector_product": able.gauss_newton_vector_product}


def _outputs(oracle: CurvatureOracle) -> dict[str, Evaluation]:
    if not supports(oracle, JacobianOracle):
        return {}
    able = require(oracle, JacobianOracle, metric="check_oracle")
    return {
        "outputs": lambda p, _: able.outputs(p, _EXAMPLES),
        "jacobian_vector_product": lambda p, u: able.jacobian_vector_product(p, u, _EXAMPLES),
        "vector_jacobian_product": lambda p, u: able.vector_jacobian_product(p, able.outputs(u, _EXAMPLES)),
    }


def _example_gradients(oracle: CurvatureOracle) -> dict[str, Evaluation]:
    if not supports(oracle, ExampleGradientOracle):
        return {}
    able = require(oracle, ExampleGradientOracle, metric="check_oracle")
    return {
        "gradient_second_moment": lambda p, _: able.gradient_second_moment(p),
        "directional_second_moment": able.directional_second_moment,
    }
