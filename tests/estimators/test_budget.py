"""Diagonals within a budget: what is chosen is known beforehand, costs no more, and is exact where that fits."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.estimators.curvature_propagation import propagated_diagonal
from invariant_sharpness.estimators.lipschitz import hessian_lipschitz_of_diagonal
from invariant_sharpness.runtime.progress import listening
from zoo.budget_networks import convolutions, oracle_of, perceptron, recurrent
from zoo.counted_gradients import CountedGradients
from zoo.smooth_networks import CASES
from zoo.torch_derivatives import cross_entropy, dense_diagonal, dense_hessian

PROBLEMS = {
    "convolutions": convolutions,
    "perceptron": perceptron,
    "many outputs": lambda: perceptron(60),
    "encoder": lambda: CASES["encoder"].problem(),
    "recurrent": recurrent,
}


KINDS = pytest.mark.parametrize(
    "kind", [k if k == "perceptron" else pytest.param(k, marks=pytest.mark.slow) for k in PROBLEMS]
)


@pytest.mark.parametrize(
    "budget", [pytest.param(30, marks=pytest.mark.slow), 38, 100, pytest.param(20_000, marks=pytest.mark.slow)]
)
@KINDS
def test_no_more_is_spent(kind: str, budget: float) -> None:
    oracle = CountedGradients(oracle_of(PROBLEMS[kind]()))
    try:
        found = ish.hessian_diagonal(oracle, budget=budget)
    except ish.errors.ArgumentError as error:
        assert "gradients at least" in str(error)  # noqa: PT017
        return
    assert oracle.gradients <= 1.1 * budget, f"{oracle.gradients:.0f} gradients of {budget} for {found.plan}"
    assert oracle.gradients <= 1.1 * found.plan.gradients, f"{oracle.gradients:.0f} gradients for {found.plan.words}"


@pytest.mark.slow
def test_the_least_that_is_named_suffices() -> None:
    torch.manual_seed(0)
    layers = [part for _ in range(11) for part in (nn.Linear(30, 30), nn.GELU())]
    x, y = torch.randn(20, 30, dtype=torch.float64), torch.randint(0, 60, (20,))
    oracle = oracle_of((nn.Sequential(*layers, nn.Linear(30, 60)).double(), x, y))
    with pytest.raises(ish.errors.ArgumentError) as refused:
        ish.hessian_diagonal(oracle, budget=1)
    least = int(re.findall(r"takes (\d+) gradients at least", str(refused.value))[0])
    found = ish.hessian_diagonal(oracle, budget=least + 1)
    assert found.plan.gradients <= least + 1, f"{found.plan.gradients:.0f} gradients of {least + 1}"


@KINDS
def test_a_large_budget_buys_the_exact_diagonal(kind: str) -> None:
    model, x, y = PROBLEMS[kind]()
    found, true = (
        ish.hessian_diagonal(oracle_of((model, x, y)), budget=20_000),
        dense_diagonal(model, dense_hessian(model, x, y, cross_entropy)),
    )
    assert found.plan.words.startswith("exact"), found.plan.words
    for name, values in true.items():
        error = np.abs(found[name].values - values.numpy()).max()
        assert error <= 1e-13, f"{name} ({found[name].method}) is off by {error:.1e}: {found.plan.words}"


def test_layers_with_few_outputs_are_exact_before_others() -> None:
    oracle = oracle_of(perceptron())
    found = ish.hessian_diagonal(oracle, budget=38)
    methods = {name: group.method for name, group in found.groups.items() if name.endswith("weight")}
    assert methods == {"0.weight": "layer draws", "2.weight": "exact (units)", "4.weight": "exact"}, found.plan.words


@KINDS
def test_draws_within_a_budget_scatter_about_the_truth(kind: str) -> None:
    model, x, y = PROBLEMS[kind]()
    found, true = (
        ish.hessian_diagonal(oracle_of((model, x, y)), budget=38),
        dense_diagonal(model, dense_hessian(model, x, y, cross_entropy)),
    )
    trace = sum(float(values.sum()) for values in true.values())
    error = found.sampling_error({name: np.ones_like(group.values) for name, group in found.groups.items()})
    off = abs(sum(group.values.sum() for group in found.groups.values()) - trace)
    assert error is not None, found.plan.words
    assert off <= 5 * error.standard_error, (
        f"the sum is off by {off:.3g} of {trace:.3g}, with the error {error}: {found.plan.words}"
    )


def test_convolutions_are_drawn_at_the_operations_above_them() -> None:
    oracle = CountedGradients(oracle_of(convolutions()))
    found = ish.hessian_diagonal(oracle, budget=60)
    methods = {name: group.method for name, group in found.groups.items()}
    assert methods["0.weight"] == methods["3.weight"] == "curvature propagation", f"{methods}: {found.plan.words}"
    assert methods["6.weight"] == "exact", f"{methods}: {found.plan.words}"
    assert "draws at the operations above" in found.plan.words, found.plan.words
    assert f"{found.plan.draws} draws at operations" in ish.normalized_sharpness(oracle, diagonal=found).method
    known = propagated_diagonal(oracle, draws=found.plan.draws)
    assert np.array_equal(known["3.weight"].values, found["3.weight"].values), "the draws are others"


def test_probes_without_a_budget_buy_draws_at_operations() -> None:
    oracle = CountedGradients(oracle_of(convolutions(400)))
    found = ish.hessian_diagonal(oracle, probes=20)
    assert found["0.weight"].method == "curvature propagation", found["0.weight"].method
    assert oracle.gradients <= 2 * 20 + 11, f"{oracle.gradients:.0f} gradients for 20 products"


def test_what_is_chosen_is_said_before_it_is_computed() -> None:
    oracle, heard = CountedGradients(oracle_of(perceptron())), []
    with listening(lambda label, *_: heard.append((label, oracle.gradients))):
        found = ish.hessian_diagonal(oracle, budget=45)
    label, spent = next(report for report in heard if report[0] != "affine test")
    assert label == f"plan: {found.plan.words}", f"{heard}"
    assert spent <= 4, f"{spent} gradients were spent before it was said"


def test_a_group_is_the_same_whichever_others_are_asked_for() -> None:
    oracle = oracle_of(perceptron())
    everything = ish.hessian_diagonal(oracle, budget=30)
    alone = ish.hessian_diagonal(oracle, parameters=frozenset({"0.weight"}), budget=30)
    assert alone["0.weight"].method == "layer draws", alone.plan.words
    assert np.array_equal(alone["0.weight"].values, everything["0.weight"].values)


def test_too_small_a_budget_names_the_least_that_is_enough() -> None:
    oracle = oracle_of(perceptron())
    with pytest.raises(ish.errors.ArgumentError, match=r"budget=1, but .* takes (\d+) gradients at least") as raised:
        ish.hessian_diagonal(oracle, budget=1)
    least = float(str(raised.value).split("takes ")[1].split()[0]) + 1
    assert ish.hessian_diagonal(oracle, budget=least).plan.gradients <= least


def test_piecewise_linear_network_is_exact_for_its_outputs() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 12)).double()
    oracle = oracle_of((model, torch.randn(50, 6, dtype=torch.float64), torch.randint(0, 12, (50,))))
    exact, sampled = (ish.hessian_diagonal(oracle, budget=budget) for budget in (20, 15))
    assert {group.method for group in exact.groups.values()} == {"exact"}, exact.plan.words
    assert {group.method for group in sampled.groups.values()} == {"sampled outputs"}, sampled.plan.words


def test_oracle_without_layers_gets_probes_or_columns() -> None:
    oracle = CountedGradients(ish.Restricted(oracle_of(perceptron()), "*"))
    without = _WithoutLayers(oracle)
    probed = ish.hessian_diagonal(without, budget=100)
    assert oracle.gradients <= 110, f"{oracle.gradients} gradients for {probed.plan.words}"
    assert {group.method for group in probed.groups.values()} == {"probes"}, probed.plan.words


class _WithoutLayers:
    """Hessian-vector products alone."""

    def __init__(self, base: Any) -> None:
        self.xp, self.groups, self.parameters, self.loss, self.gradient = (
            base.xp,
            base.groups,
            base.parameters,
            base.loss,
            base.gradient,
        )
        self.hessian_vector_product, self.from_numpy, self.to_numpy = (
            base.hessian_vector_product,
            base.from_numpy,
            base.to_numpy,
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "normalized_sharpness",
        "parameter_normalized_sharpness",
        "matrix_normalized_sharpness",
        "pacgen",
        "pac_bayes_bound",
    ],
)
def test_metrics_say_what_their_budget_bought(name: str) -> None:
    oracle = CountedGradients(oracle_of(perceptron()))
    found = ish.METRICS[name](oracle, budget=200)
    assert oracle.gradients <= 220, f"{oracle.gradients} gradients for {found}"
    assert any(note.startswith("Hessian diagonal: ") for note in found.notes), found.notes


def test_change_of_the_diagonal_says_what_its_budget_bought() -> None:
    found = hessian_lipschitz_of_diagonal(oracle_of(perceptron()), budget=114, draws=2)
    bought = [note for note in found.notes if note.startswith("Hessian diagonal: ") and "draws at the layers" in note]
    assert bought, found.notes


@pytest.mark.slow
def test_drawing_ends_where_the_error_is_small_enough() -> None:
    oracle = CountedGradients(oracle_of(PROBLEMS["encoder"]()))
    exact = ish.normalized_sharpness(oracle, budget=20_000).value
    spent = {}
    for goal in (0.5, 0.05, 0.005):
        oracle.gradients = 0.0
        found = ish.normalized_sharpness(oracle, budget=300, relative_error=goal)
        spent[goal], (low, high) = oracle.gradients, found.interval()
        assert oracle.gradients <= 330, f"{oracle.gradients:.0f} gradients of 300 for {found}"
        assert low <= exact <= high, f"{found}: from {low} to {high}, but it is {exact}"
        reached = max(high - found.value, found.value - low) / (2 * found.value)
        assert found.converged == (reached <= goal), f"{found}, with the relative error {reached:.2g} for {goal}"
    assert spent[0.5] < spent[0.005], f"{spent}"


def test_an_error_takes_a_budget() -> None:
    oracle = oracle_of(perceptron())
    with pytest.raises(ish.errors.ArgumentError, match=r"relative_error=0.1 and budget=None, but it takes"):
        ish.normalized_sharpness(oracle, relative_error=0.1)
