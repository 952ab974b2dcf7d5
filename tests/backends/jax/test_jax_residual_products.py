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


@pytest.mark.parametrize("step", [1, 2], ids=["all groups", "every second group"])
@pytest.mark.parametrize("kind", ["gelu", pytest.param("decoder", marks=pytest.mark.slow)])
def test_products_are_those_of_a_block_of_the_dense_residual_part(kind: str, step: int) -> None:
    case = CASES[kind]
    parameters, x, y = case.problem()
    oracle = capability(ish.oracle(case.apply, (x, y), parameters=parameters, batch_size=4), ResidualProductOracle)
    assert oracle is not None
    names, residual = frozenset(group.name for group in oracle.groups[::step]), dense_residual(case)
    assert np.abs(residual - residual.T).max() <= 1e-13, "the dense matrix is not symmetric"
    vectors = [prng.signs(oracle, 0, number) for number in range(5)]
    here = flat(vectors[0].only(names)) != 0
    expected = np.stack([here * (residual @ (here * flat(v))) for v in vectors])
    found = np.stack([flat(product) for product in oracle.residual_vector_products(oracle.parameters, vectors, names)])
    error = np.abs(found - expected).max()
    assert error <= 1e-12 * max(1.0, np.abs(expected).max()), f"R v is off by {error:.1e}"
