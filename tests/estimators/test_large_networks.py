"""What networks of many parameters get by default: all that fits into the cost of the products, and the trace by products where no diagonal fits."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.estimators import diagonal_plan
from zoo.counted_gradients import CountedGradients
from zoo.torch_derivatives import cross_entropy, dense_diagonal, dense_hessian

CLASSES = 300
"""More than are squared one by one."""


@cache
def problem() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layers = nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3), nn.GELU(), nn.Linear(3, CLASSES)
    x, y = torch.randn(40, 3, dtype=torch.float64), torch.randint(0, CLASSES, (40,))
    return nn.Sequential(*layers).double(), x, y


def oracle() -> CountedGradients:
    model, x, y = problem()
    return CountedGradients(ish.oracle(model, (x, y)))


@pytest.fixture
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagonal_plan, "LARGE", 100)


@pytest.mark.usefixtures("_large")
@pytest.mark.parametrize("probes", [16, 32])
def test_all_is_within_the_cost_of_the_products(probes: int) -> None:
    counted = oracle()
    found = ish.hessian_diagonal(counted, probes=probes)
    assert found.plan is not None
    assert found.plan.gradients <= 2 * probes
    assert counted.gradients <= 1.1 * 2 * probes, f"{counted.gradients:.0f} gradients for {found.plan.words}"


@pytest.mark.usefixtures("_large")
def test_where_that_is_too_little_every_layer_gets_the_least_of_draws() -> None:
    found = ish.hessian_diagonal(oracle(), probes=4)
    assert found.plan is not None
    assert found.groups.keys() == dict(problem()[0].named_parameters()).keys()
    assert found.plan.draws == 4, found.plan.words
    with pytest.raises(ish.errors.ArgumentError, match="budget=8, but"):
        ish.hessian_diagonal(oracle(), budget=8)


@pytest.mark.usefixtures("_large")
def test_nothing_is_kept_of_the_gauss_newton_diagonal() -> None:
    found = ish.hessian_diagonal(oracle(), probes=16)
    assert any(group.method == "layer draws" for group in found.groups.values()), found.method(frozenset(found.groups))
    assert not found.gauss_newton, f"the memory of {sorted(found.gauss_newton)} is not given back"


def test_small_networks_have_no_plan_within_a_budget() -> None:
    assert ish.hessian_diagonal(oracle(), probes=16).plan is None


def test_a_trace_within_a_budget_that_is_too_small_for_a_diagonal_takes_products() -> None:
    counted = oracle()
    budget = least(counted) - 1
    counted.gradients = 0
    found = ish.hessian_trace(counted, budget=budget)
    model, x, y = problem()
    true = sum(float(h.sum()) for h in dense_diagonal(model, dense_hessian(model, x, y, cross_entropy)).values())
    assert "probes" in found.method, found.method
    assert counted.gradients <= budget
    assert found.standard_error is not None
    assert abs(found.value - true) <= 6 * found.standard_error, f"{found.value} instead of {true}"


def least(counted: Any) -> float:
    """What the cheapest diagonal costs, as the error says."""
    with pytest.raises(ish.errors.ArgumentError, match=r"takes \d+ gradients at least") as refused:
        ish.hessian_diagonal(counted, budget=1)
    return float(str(refused.value).split("takes ")[1].split()[0])


def test_a_budget_of_no_products_is_refused() -> None:
    with pytest.raises(ish.errors.ArgumentError, match="budget=11, but"):
        ish.hessian_trace(oracle(), budget=11)
