"""Products with the Gauss-Newton matrix and the outputs' Jacobian, against dense ones that torch.func builds."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.func import functional_call, hessian, jacrev

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.errors import DataError
from zoo.torch_derivatives import LOSSES
from zoo.torch_networks import random_problem
from zoo.vectors import flat

PROBLEMS = [(kind, loss) for kind in ("mlp", "cnn", "resnet") for loss in LOSSES]
EXAMPLES = 11
every_problem = pytest.mark.parametrize(("kind", "loss"), PROBLEMS)


@cache
def problem(kind: str, loss: str) -> tuple[ish.CurvatureOracle, Any, Any]:
    """An oracle, the Jacobian (N, K, P) and the output Hessians (N, K, K)."""
    model, x, y = random_problem(kind, examples=EXAMPLES)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    blocks = jacrev(lambda values: functional_call(model, values, (x,)))(parameters)
    J = torch.cat([block.flatten(2) for block in blocks.values()], dim=2)
    z = model(x).detach()
    Lambda = torch.stack(
        [hessian(lambda row, i=i: LOSSES[loss](row[None], y[i : i + 1])[0])(z[i]) for i in range(len(y))]
    )
    return ish.oracle(model, (x, y), loss=loss, batch_size=4), J.numpy(), Lambda.numpy()


def assert_close(value: Any, expected: Any, what: str) -> None:
    error = float(np.abs(value - expected).max() / np.abs(expected).max())
    assert error <= 1e-11, f"relative error {error:.1e} of {what}"


@every_problem
def test_curvature_product_is_that_of_the_dense_matrix(kind: str, loss: str) -> None:
    oracle, J, Lambda = problem(kind, loss)
    v = prng.signs(oracle, 0, 0)
    G = np.einsum("nka,nkl,nlb->ab", J, Lambda, J) / EXAMPLES
    assert_close(flat(oracle.gauss_newton_vector_product(oracle.parameters, v)), G @ flat(v), "G v")


@every_problem
def test_jacobian_product_is_that_of_the_dense_jacobian(kind: str, loss: str) -> None:
    oracle, J, _ = problem(kind, loss)
    v = prng.signs(oracle, 0, 1)
    for examples in (3, 4, 9, EXAMPLES):
        Jv = oracle.jacobian_vector_product(oracle.parameters, v, examples)
        assert_close(Jv, (J @ flat(v))[:examples], f"J v on {examples} examples")


@every_problem
def test_transposed_product_is_that_of_the_dense_jacobian(kind: str, loss: str) -> None:
    oracle, J, _ = problem(kind, loss)
    for examples in (3, 4, 9, EXAMPLES):
        c = prng.cotangents(0, (examples, J.shape[1]))
        Jc = oracle.vector_jacobian_product(oracle.parameters, c)
        assert_close(flat(Jc), np.einsum("nka,nk->a", J[:examples], c), f"J^T c on {examples} examples")


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_in_other_coordinates_the_jacobian_has_scaled_columns(kind: str) -> None:
    oracle, J, Lambda = problem(kind, "cross_entropy")
    s = oracle.parameters.map(lambda a: abs(a) + 0.5)
    v = prng.signs(oracle, 0, 2)
    scaled, JS = ish.Scaled(oracle, s), J * flat(s)
    assert_close(scaled.jacobian_vector_product(scaled.parameters, v, EXAMPLES), JS @ flat(v), "J S v")
    c = prng.cotangents(0, (EXAMPLES, J.shape[1]))
    assert_close(flat(scaled.vector_jacobian_product(scaled.parameters, c)), np.einsum("nka,nk->a", JS, c), "S J^T c")
    G = np.einsum("nka,nkl,nlb->ab", JS, Lambda, JS) / EXAMPLES
    assert_close(flat(scaled.gauss_newton_vector_product(scaled.parameters, v)), G @ flat(v), "S G S v")


def test_elsewhere_outputs_are_those_of_the_other_parameters() -> None:
    model, x, y = random_problem("mlp")
    oracle = ish.oracle(model, (x, y))
    moved = ish.Moved(oracle, oracle.parameters * 1.5)
    values = {name: 1.5 * p.detach() for name, p in model.named_parameters()}
    expected = functional_call(model, values, (x,)).detach().numpy()
    assert_close(moved.outputs(moved.parameters, len(x)), expected, "outputs")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones(3), "one row of numbers per example"),
        (np.ones((3, 4)), "have 4 numbers per row, but an example has 3 outputs"),
        (np.ones((EXAMPLES + 2, 3)), "2 more rows of cotangents than examples"),
    ],
)
def test_cotangents_that_do_not_fit_are_refused(rows: Any, message: str) -> None:
    oracle, _, _ = problem("mlp", "cross_entropy")
    with pytest.raises(ValueError, match=message):
        oracle.vector_jacobian_product(oracle.parameters, rows)


def test_examples_with_other_numbers_of_outputs_are_refused() -> None:
    model = torch.nn.Conv1d(2, 3, 1).double()
    batches = [(torch.randn(2, 2, n, dtype=torch.float64), torch.randn(2, 3, n, dtype=torch.float64)) for n in (4, 5)]
    oracle = ish.oracle(model, batches, loss="mse")
    assert oracle.outputs(oracle.parameters, 2).shape == (2, 12)
    with pytest.raises(DataError, match="examples have 12 and 15 outputs"):
        oracle.outputs(oracle.parameters, 3)
