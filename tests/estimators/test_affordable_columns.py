"""Small networks get all columns: traces, norms and diagonals are exact where that takes no time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import invariant_sharpness as ish
from invariant_sharpness.estimators.column_diagonal import affords_columns
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from zoo.torch_derivatives import cross_entropy, dense_hessian, dense_matrix


def problem() -> tuple[Any, Any, Any]:
    """A network of 161 parameters."""
    torch.manual_seed(0)
    layers = torch.nn.Linear(6, 10), torch.nn.GELU(), torch.nn.Linear(10, 5), torch.nn.Tanh(), torch.nn.Linear(5, 6)
    return torch.nn.Sequential(*layers).double(), torch.randn(40, 6, dtype=torch.float64), torch.randint(0, 6, (40,))


@pytest.mark.parametrize("metric", ["hessian_frobenius_norm", "hessian_trace", "parameter_normalized_sharpness"])
def test_small_network_is_exact(metric: str) -> None:
    model, x, y = problem()
    hessian = dense_matrix(dense_hessian(model, x, y, cross_entropy))
    names = [name for name, p in model.named_parameters() for _ in range(p.numel())]
    weights = torch.tensor([name.endswith("weight") for name in names])
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    h = hessian.diagonal()
    expected = {
        "hessian_frobenius_norm": hessian.norm(),
        "hessian_trace": h.sum(),
        "parameter_normalized_sharpness": 2 * (theta.abs() * h.clamp(min=0).sqrt())[weights].sum(),
    }[metric]
    found = ish.METRICS[metric](ish.oracle(model, (x, y)))
    assert found.standard_error is None, f"{found} of {len(theta)} parameters"
    assert found.value == pytest.approx(float(expected), rel=1e-12), f"{found}, but it is {expected}"


@pytest.mark.parametrize(("examples", "entries", "products", "expected"), [
    (100, 512, 64, True), (100, 513, 64, False), (3000, 512, 64, False), (100_000, 64, 64, True), (100, 33, 4, False),
])  # fmt: skip
def test_columns_are_taken_by_what_they_cost(examples: int, entries: int, products: int, expected: bool) -> None:
    inputs, labels = np.zeros((examples, 2)), np.zeros(examples, dtype=int)
    oracle = NetworkOracle(ReluNetwork((np.eye(2),)), inputs, labels)
    found = affords_columns(oracle, entries, products)
    assert found is expected, f"{entries} columns on {examples} examples in the place of {products} products: {found}"


def test_diagonal_of_gauss_newton_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layers = torch.nn.Linear(6, 30), torch.nn.GELU(), torch.nn.Linear(30, 30), torch.nn.GELU(), torch.nn.Linear(30, 3)
    model, x = torch.nn.Sequential(*layers).double(), torch.randn(40, 6, dtype=torch.float64)
    oracle: Any = ish.oracle(model, (x, torch.randint(0, 3, (40,))))
    compute, calls = oracle.gauss_newton_diagonal, []
    monkeypatch.setattr(oracle, "gauss_newton_diagonal", lambda at, names: calls.append(names) or compute(at, names))
    report = ish.measure(oracle)
    assert len(calls) == 1, f"{len(calls)} passes, for {[sorted(names) for names in calls]}"
    alone = ish.normalized_sharpness(ish.GaussNewton(oracle))
    beside = report["normalized_sharpness (Gauss-Newton)"]
    assert beside.value == alone.value, f"{beside} beside the Hessian, {alone} alone"
