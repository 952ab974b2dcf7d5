"""One linearization for many products: it gives what products one by one give, wherever the model stands meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.estimators.products import repeated_products
from invariant_sharpness.testing.additivity import check_block_products
from invariant_sharpness.testing.results import CheckFailedError
from zoo.smooth_networks import CASES
from zoo.torch_derivatives import dense_hessian
from zoo.vectors import flat


def oracle_of(kind: str = "gelu", batch_size: int = 4) -> Any:
    model, x, y = CASES[kind].problem()
    return ish.oracle(model, (x, y), batch_size=batch_size)


def require_equal(found: ish.ParameterVector, expected: ish.ParameterVector) -> None:
    error = (found - expected).norm() / expected.norm()
    assert error <= 1e-14, f"the product is off by {error:.1e}"


@pytest.mark.parametrize("batch_size", [4, 1000], ids=["several batches", "one batch"])
def test_products_are_those_of_the_dense_hessian(batch_size: int) -> None:
    model, x, y = CASES["gelu"].problem()
    oracle: Any = ish.oracle(model, (x, y), batch_size=batch_size)
    blocks = dense_hessian(model, x, y, nn.functional.cross_entropy)
    H = np.block([[block.numpy() for block in row.values()] for row in blocks.values()])
    multiply = oracle.hessian_operator(oracle.parameters)
    for number in range(3):
        v = prng.signs(oracle, 0, number)
        error = np.abs(flat(multiply([v])[0]) - H @ flat(v)).max()
        assert error <= 1e-12, f"product {number} is off by {error:.1e}"


def test_operator_stays_at_its_point_while_others_are_measured() -> None:
    oracle = oracle_of()
    point, v = 1.5 * oracle.parameters, prng.signs(oracle, 0, 0)
    multiply = oracle.hessian_operator(point)
    oracle.gradient(oracle.parameters)
    require_equal(multiply([v])[0], oracle.hessian_vector_product(point, v))


@pytest.mark.parametrize("wrap", ["scaled", "restricted", "moved", "gauss_newton"])
def test_operator_in_other_coordinates_is_that_of_their_products(wrap: str) -> None:
    oracle = oracle_of()
    wrapped: Any = {
        "scaled": lambda: ish.Scaled(oracle, ish.scales.balanced(oracle)),
        "restricted": lambda: ish.Restricted(oracle, "*.weight"),
        "moved": lambda: ish.Moved(oracle, 1.5 * oracle.parameters),
        "gauss_newton": lambda: ish.GaussNewton(oracle),
    }[wrap]()
    v = prng.signs(wrapped, 0, 0)
    ((_, found),) = repeated_products(wrapped)([v])
    require_equal(found, wrapped.hessian_vector_product(wrapped.parameters, v))


def test_data_that_do_not_fit_are_passed_over_again() -> None:
    oracle, seen = oracle_of(batch_size=1000), []
    v = prng.signs(oracle, 0, 0)
    with ish.memory_limit(1):
        multiply = oracle.hessian_operator(oracle.parameters)
        oracle.engine.model.register_forward_hook(lambda *_: seen.append(1))
        multiply([v])
    assert seen, "the model did not run again, so its graph was held beyond the limit"


def test_a_held_linearization_runs_the_model_once() -> None:
    oracle, seen = oracle_of(batch_size=1000), []
    oracle.engine.model.register_forward_hook(lambda *_: seen.append(1))
    multiply = repeated_products(oracle)
    for number in range(4):
        list(multiply([prng.signs(oracle, 0, number)]))
    assert len(seen) == 1, f"the model ran {len(seen)} times for four products"


class Counting(nn.Module):
    """Writes to a buffer of which its derivatives are made, in every forward pass."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("shift", torch.ones(1, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shift.add_(1.0).sub_(1.0)
        return self.body(x) * self.shift


def test_a_model_that_writes_to_its_buffers_is_passed_over_again() -> None:
    model, x, y = CASES["gelu"].problem()
    oracle: Any = ish.oracle(Counting(model), (x, y), batch_size=4)
    multiply, v = oracle.hessian_operator(oracle.parameters), prng.signs(oracle, 0, 0)
    for _ in range(2):
        require_equal(multiply([v])[0], oracle.hessian_vector_product(oracle.parameters, v))


def test_a_linearization_at_another_point_is_caught() -> None:
    oracle = oracle_of()
    right = oracle.hessian_operator
    oracle.hessian_operator = lambda _: right(oracle.parameters)
    with pytest.raises(CheckFailedError, match="hessian_operator differs by"):
        check_block_products(oracle, 0)


def test_weights_stay_what_they_are() -> None:
    model, x, y = CASES["gelu"].problem()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ish.hessian_spectral_norm(ish.oracle(model, (x, y)))
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert not changed, f"{changed} changed"
