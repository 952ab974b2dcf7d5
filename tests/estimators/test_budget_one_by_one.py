"""Budgets where squares take one example at a time, as for the recurrent weights of an LSTM: what it costs is counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import invariant_sharpness as ish
from invariant_sharpness.estimators.diagonal_plan import plan_within
from zoo.budget_networks import Recurrent, oracle_of, recurrent
from zoo.counted_gradients import CountedGradients


@pytest.mark.slow
@pytest.mark.parametrize("budget", [38, 100, 200])
def test_groups_that_are_squared_one_example_at_a_time_are_probed(budget: float) -> None:
    oracle = CountedGradients(oracle_of(recurrent()))
    assert oracle.squared_one_by_one(oracle.parameters) == {"cell.weight_hh_l0": 50, "cell.bias_hh_l0": 50}
    found = ish.hessian_diagonal(oracle, budget=budget)
    exact = oracle.gauss_newton_diagonal(oracle.parameters, frozenset(found.groups))
    assert found["cell.weight_hh_l0"].method == "probes", found.plan.words
    assert found["cell.weight_ih_l0"].method in {"layer draws", "exact (units)"}, found.plan.words
    assert found["head.weight"].method == "exact", found.plan.words
    assert np.allclose(found["head.weight"].values, oracle.to_numpy(exact)["head.weight"], rtol=1e-12), found.plan.words


@pytest.mark.slow
def test_probes_of_groups_that_are_squared_one_example_at_a_time_cost_no_more_than_their_products() -> None:
    torch.manual_seed(0)
    model, x = Recurrent(12).double(), torch.randn(300, 5, 4, dtype=torch.float64)
    oracle = CountedGradients(oracle_of((model, x, torch.randint(0, 3, (300,)))))
    found = ish.hessian_diagonal(oracle, probes=32)
    assert found["cell.weight_hh_l0"].method == "probes", found["cell.weight_hh_l0"].method
    assert found["cell.weight_ih_l0"].method == "layer draws", found["cell.weight_ih_l0"].method
    passes = 3 * 1.5
    assert oracle.gradients <= 2 * 2 * 32 + passes + 10, f"{oracle.gradients:.0f} gradients for 32 products twice"


def test_restricted_oracle_tells_which_of_its_groups_are_squared_one_example_at_a_time() -> None:
    restricted = ish.Restricted(oracle_of(recurrent()), ["cell.weight_hh_l0", "head.*"])
    assert restricted.squared_one_by_one(restricted.parameters) == {"cell.weight_hh_l0": 50}


@pytest.mark.slow
def test_what_is_too_little_for_columns_buys_draws() -> None:
    oracle = oracle_of(recurrent())
    curved = frozenset(group.name for group in oracle.groups if group.name.startswith("cell"))
    for budget in range(60, 300, 10):
        found = plan_within(oracle, curved, budget)
        assert found.gradients >= 0.9 * budget, f"{found.words} of {budget}"


@pytest.mark.slow
def test_one_example_at_a_time_is_affordable_with_many_gradients() -> None:
    oracle = CountedGradients(oracle_of(recurrent()))
    spent = {}
    for budget in (200, 280):
        oracle.gradients = 0.0
        found, spent[budget] = ish.hessian_diagonal(oracle, budget=budget), oracle.gradients
    assert found["cell.weight_hh_l0"].method == "residual probes", found.plan.words
    assert spent[280] <= 280, f"{spent} gradients for {found.plan.words}"


@pytest.mark.slow
def test_gauss_newton_matrix_of_a_recurrent_network_is_refused_or_paid_for() -> None:
    oracle = CountedGradients(oracle_of(recurrent()))
    with pytest.raises(ish.errors.ArgumentError, match="gradients at least"):
        ish.hessian_diagonal(ish.GaussNewton(oracle), budget=40)
    oracle.gradients = 0.0
    found = ish.hessian_diagonal(ish.GaussNewton(oracle), budget=110)
    assert oracle.gradients <= found.plan.gradients <= 110, f"{oracle.gradients} gradients for {found.plan.words}"
