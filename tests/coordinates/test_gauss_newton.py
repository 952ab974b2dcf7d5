"""The Gauss-Newton matrix in the place of the Hessian, against a dense one that torch.func builds."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn
from torch.func import functional_call, hessian, jacrev

import invariant_sharpness as ish
from invariant_sharpness.errors import MissingCapabilityError
from invariant_sharpness_numpy import FunctionOracle


def smooth_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.LayerNorm(5), nn.Linear(5, 3)).double()


@cache
def problem() -> tuple[ish.GaussNewton, Any, list[str]]:
    """The oracle, the dense matrix, and the names of its blocks."""
    model, x, y = smooth_model(), torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    blocks = jacrev(lambda values: functional_call(model, values, (x,)))(parameters)
    J = torch.cat([block.flatten(2) for block in blocks.values()], dim=2)
    z = model(x).detach()
    Lambda = torch.stack([hessian(lambda row, k=k: nn.functional.cross_entropy(row, y[k]))(z[k]) for k in range(9)])
    G = torch.einsum("nka,nkl,nlb->ab", J, Lambda, J) / 9
    return ish.GaussNewton(ish.oracle(model, (x, y))), G.numpy(), list(parameters)


def test_trace_is_that_of_the_dense_matrix_and_exact() -> None:
    oracle, G, _ = problem()
    estimate = ish.hessian_trace(oracle)
    assert estimate.standard_error is None, estimate
    assert estimate.value == pytest.approx(np.trace(G), rel=1e-12)


def test_spectral_norm_is_the_largest_eigenvalue_of_the_dense_matrix() -> None:
    oracle, G, _ = problem()
    assert ish.hessian_spectral_norm(oracle).value == pytest.approx(np.linalg.eigvalsh(G)[-1], rel=1e-6)


def test_normalized_sharpness_is_the_minimum_over_the_dense_diagonal() -> None:
    oracle, G, names = problem()
    weights, position, expected = oracle.to_numpy(oracle.parameters), 0, 0.0
    for name in names:
        W = weights[name]
        h = np.diag(G)[position : position + W.size].reshape(W.shape)
        position += W.size
        if W.ndim == 2:
            expected += least(h, W**2)
    assert ish.normalized_sharpness(oracle).value == pytest.approx(expected, rel=1e-8)


def least(a: Any, b: Any) -> float:
    def value(v: Any) -> float:
        z = v[: len(a), None] + v[None, len(a) :]
        return float(np.sum(a * np.exp(z) + b * np.exp(-z)))

    return float(minimize(value, np.zeros(sum(a.shape)), method="BFGS", options={"gtol": 1e-10}).fun)


def test_piecewise_linear_network_has_the_same_diagonal_as_by_the_hessian() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    oracle = ish.oracle(model, (torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3))
    by_hessian, by_gauss_newton = ish.normalized_sharpness(oracle), ish.normalized_sharpness(ish.GaussNewton(oracle))
    assert by_gauss_newton.value == pytest.approx(by_hessian.value, rel=1e-12)


def test_in_other_coordinates_it_is_the_same_matrix_scaled() -> None:
    oracle, G, _ = problem()
    s = oracle.parameters.map(lambda a: abs(a) + 0.5)
    scales = np.concatenate([np.ravel(a) for a in s.arrays.values()])
    expected = float(np.sum(np.diag(G) * scales**2))
    for scaled in (ish.Scaled(oracle, s), ish.GaussNewton(ish.Scaled(oracle.base, s))):
        assert ish.hessian_trace(scaled).value == pytest.approx(expected, rel=1e-12)


def test_oracle_without_products_is_refused() -> None:
    oracle = FunctionOracle({"w": [1.0]}, lambda _: 0.0, lambda p: p, lambda _, v: v)
    with pytest.raises(MissingCapabilityError, match="GaussNewton needs gauss_newton_vector_product"):
        ish.GaussNewton(oracle)
