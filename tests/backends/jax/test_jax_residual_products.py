"""Products with the residual part of the Hessian, against dense matrices in float64."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.protocol import ResidualProductOracle, capability
from zoo.jax_networks import cross_entropy, dense_hessian, dense_jacobian
from zoo.jax_smooth_networks import CASES, Case
from zoo.vectors import flat


def dense_residual(case: Case) -> Any:
    """H - G, with G by the Jacobians of the outputs."""
    parameters, x, y = case.problem()
    hessian = dense_hessian(case.apply, parameters, x, y, cross_entropy)
    J = dense_jacobian(case.apply, parameters, x)
    p = np.asarray(jax.nn.softmax(case.apply(parameters, x)))
    curvature = np.eye(3) * p[:, None] - p[:, :, None] * p[:, None]
    return hessian - np.einsum("nka,nkl,nlb->ab", J, curvature, J) / len(x)


@pytest.mark.parametrize("kind", ["gelu", pytest.param("decoder", marks=pytest.mark.slow)])
def test_product_is_that_of_the_dense_residual_part(kind: str) -> None:
    case = CASES[kind]
    parameters, x, y = case.problem()
    oracle = capability(ish.oracle(case.apply, (x, y), parameters=parameters, batch_size=4), ResidualProductOracle)
    assert oracle is not None
    v, residual = prng.signs(oracle, 0, 0), dense_residual(case)
    assert np.abs(residual - residual.T).max() <= 1e-13, "the dense matrix is not symmetric"
    expected = residual @ flat(v)
    error = np.abs(flat(oracle.residual_vector_product(oracle.parameters, v)) - expected).max()
    assert error <= 1e-12 * max(1.0, np.abs(expected).max()), f"R v is off by {error:.1e}"
