"""Products with the residual part of the Hessian, against dense matrices in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.protocol import ResidualProductOracle, capability
from invariant_sharpness.testing import check_oracle
from zoo.smooth_networks import CASES
from zoo.vectors import flat

Tensor = torch.Tensor


def oracle_of(model: nn.Module, x: Tensor, y: Tensor) -> Any:
    oracle = capability(ish.oracle(model, (x, y), batch_size=4), ResidualProductOracle)
    assert oracle is not None
    return oracle


def every_group(oracle: Any) -> frozenset[str]:
    return frozenset(group.name for group in oracle.groups)


@sdpa_kernel(SDPBackend.MATH)
def dense_residual(model: nn.Module, x: Tensor, y: Tensor) -> np.ndarray:
    """The Hessian of the mean of <c, f> with constant cotangents c of the cross-entropy, row by row: `torch.func` has wrong ones at the gains of layer norms."""
    parameters = list(model.parameters())
    outputs = model(x)
    cotangents = (outputs.softmax(-1) - functional.one_hot(y, 3)).detach()
    slopes = torch.autograd.grad((cotangents * outputs).sum() / len(x), parameters, create_graph=True)
    entries = torch.cat([slope.flatten() for slope in slopes])
    rows = [torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True) for entry in entries]
    found = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    assert torch.allclose(found, found.mT, atol=1e-13), "the dense matrix is not symmetric"
    return found.numpy()


@pytest.mark.parametrize("kind", CASES)
def test_product_is_that_of_the_dense_residual_part(kind: str) -> None:
    model, x, y = CASES[kind].problem()
    oracle = oracle_of(model, x, y)
    v, names = prng.signs(oracle, 0, 0), every_group(oracle)
    expected = dense_residual(model, x, y) @ flat(v)
    (found,) = oracle.residual_vector_products(oracle.parameters, [v], names)
    error = np.abs(flat(found) - expected).max()
    assert error <= 1e-12 * max(1.0, np.abs(expected).max()), f"R v is off by {error:.1e}"


@pytest.mark.parametrize("kind", CASES)
def test_block_takes_and_returns_nothing_of_other_groups(kind: str) -> None:
    model, x, y = CASES[kind].problem()
    oracle = oracle_of(model, x, y)
    names = frozenset(group.name for group in oracle.groups[::2])
    vectors = [prng.signs(oracle, 0, number) for number in range(3)]
    here, residual = flat(vectors[0].only(names)) != 0, dense_residual(model, x, y)
    expected = np.stack([here * (residual @ (here * flat(v))) for v in vectors])
    found = np.stack([flat(product) for product in oracle.residual_vector_products(oracle.parameters, vectors, names)])
    error = np.abs(found - expected).max()
    assert error <= 1e-12 * max(1.0, np.abs(expected).max()), f"R v of a block is off by {error:.1e}"


@pytest.mark.parametrize("wrap", ["scaled", "restricted", "moved"])
def test_product_in_other_coordinates_is_that_of_both_matrices(wrap: str) -> None:
    oracle = oracle_of(*CASES["gelu"].problem())
    wrapped: Any = {
        "scaled": lambda: ish.Scaled(oracle, ish.scales.balanced(oracle)),
        "restricted": lambda: ish.Restricted(oracle, "*.weight"),
        "moved": lambda: ish.Moved(oracle, 1.5 * oracle.parameters),
    }[wrap]()
    at, v = wrapped.parameters, prng.signs(wrapped, 0, 0)
    expected = flat(wrapped.hessian_vector_product(at, v)) - flat(wrapped.gauss_newton_vector_product(at, v))
    (found,) = wrapped.residual_vector_products(at, [v], every_group(wrapped))
    error = np.abs(flat(found) - expected).max()
    assert error <= 1e-13 * max(1.0, np.abs(expected).max()), f"R v is off by {error:.1e}"


def test_gauss_newton_has_no_residual_part() -> None:
    oracle: Any = ish.GaussNewton(oracle_of(*CASES["gelu"].problem()))
    (found,) = oracle.residual_vector_products(oracle.parameters, [prng.signs(oracle, 0, 0)], every_group(oracle))
    assert not flat(found).any(), f"{np.count_nonzero(flat(found))} entries of R v are not zero"


def test_a_product_that_moves_the_cotangents_is_found() -> None:
    oracle = oracle_of(*CASES["gelu"].problem())
    moving = {"residual_vector_products": lambda o, p, vs, _: [o.hessian_vector_product(p, v) for v in vs]}
    broken: Any = type("Broken", (ish.Moved,), moving)
    results = {result.check: result for result in check_oracle(broken(oracle, oracle.parameters), on_fail="return")}
    found = results["check_gauss_newton_product"]
    assert found.status == "failed", found
    assert "residual_vector_products differ from H v - G v" in found.message, found.message
