"""Preconditioned sharpness against a dense generalized eigenproblem, its thresholds against the dynamics, and its invariance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import eigh

import invariant_sharpness as ish
from invariant_sharpness.adapters.optimizers import Momentum
from invariant_sharpness.errors import ModelError
from zoo import numpy_problem
from zoo.rescaled import rescaled
from zoo.vectors import assert_close

LOSS = "cross_entropy"


def oracle() -> Any:
    return numpy_problem.problem(LOSS, biases=True).oracle


def state(seed: int = 0, **settings: Any) -> ish.OptimizerState:
    random = np.random.default_rng(seed)
    squares = {group.name: np.exp(random.normal(size=group.shape)) for group in oracle().groups}
    rates = dict.fromkeys(squares, 0.05)
    return ish.OptimizerState("Adam", rates, squares, momentum=0.9, form="average", **settings)


@pytest.mark.parametrize("seed", range(3))
def test_value_is_that_of_the_dense_generalized_eigenproblem(seed: int) -> None:
    given = state(seed, epsilon=0.1, epsilon_root=0.2, correction=0.7)
    squares = np.concatenate([given.mean_squares[group.name].ravel() for group in oracle().groups])
    P = 0.7 * (np.sqrt(squares + 0.2) + 0.1)
    expected = eigh(numpy_problem.dense_hessian(LOSS, biases=True), np.diag(P), eigvals_only=True)[-1]
    assert_close(ish.preconditioned_sharpness(oracle(), optimizer=given).value, expected, "eigenvalue", 1e-8)


def test_without_an_optimizer_it_is_the_largest_eigenvalue() -> None:
    expected = np.linalg.eigvalsh(numpy_problem.dense_hessian(LOSS, biases=True))[-1]
    found = ish.preconditioned_sharpness(oracle())
    assert_close(found.value, expected, "largest eigenvalue", 1e-8)
    assert found.method.startswith("no preconditioner"), found.method


def spectral_radius(form: Momentum, beta: float, rate: float, decay: float, curvature: float) -> float:
    """The growth of one step (parameter, momentum) on a parabola, as a 2 by 2 matrix."""
    gain = 1 - beta if form == "average" else 1.0
    kick = rate * curvature
    momentum = np.array([gain * curvature, beta])
    shrink = 1 - rate * decay
    parameter = np.array([shrink, 0.0]) - rate * momentum
    if form == "nesterov":
        parameter = np.array([shrink - kick, 0.0]) - rate * beta * momentum
    return float(np.abs(np.linalg.eigvals(np.stack([parameter, momentum]))).max())


@pytest.mark.parametrize("form", ["heavy ball", "nesterov", "average"])
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("decay", [0.0, 2.0])
def test_threshold_is_where_the_dynamics_begin_to_grow(form: Momentum, beta: float, decay: float) -> None:
    given = ish.OptimizerState("any", {"w": 0.1}, momentum=beta, form=form, decoupled_decay=decay)
    below, above = (spectral_radius(form, beta, 0.1, decay, given.threshold * (1 + e)) for e in (-1e-5, 1e-5))
    assert below < 1 < above, f"{below!r} and {above!r}"


def test_everything_is_stable_where_the_learning_rate_is_zero() -> None:
    still = ish.OptimizerState("SGD", dict.fromkeys((group.name for group in oracle().groups), 0.0))
    found = ish.preconditioned_sharpness(oracle(), optimizer=still)
    assert_close(found.value, ish.preconditioned_sharpness(oracle()).value, "eigenvalue", 1e-8)
    assert found.notes == ("threshold inf, of which the value is 0",), found.notes


def test_threshold_of_adam_is_38_over_the_learning_rate() -> None:
    assert state().threshold == pytest.approx(38 / 0.05)


def test_it_is_invariant_in_coordinates_that_move_with_the_parameters() -> None:
    """Gradients of the rescaled network are divided by its factors, mean squares by their squares; raw, the value moves."""
    before, after = oracle(), rescaled(oracle())
    factors = {
        g.name: after.to_numpy(after.parameters)[g.name] / before.to_numpy(before.parameters)[g.name]
        for g in before.groups
    }
    given = state()
    there = state()
    moved = {name: squares / factors[name] ** 2 for name, squares in there.mean_squares.items()}
    there = ish.OptimizerState(given.name, given.learning_rates, moved, momentum=0.9, form="average")
    pairs = ((before, given), (after, there))
    raw = [ish.preconditioned_sharpness(one, optimizer=s).value for one, s in pairs]
    scaled = [
        ish.preconditioned_sharpness(ish.Scaled(one, ish.scales.balanced(one)), optimizer=s).value for one, s in pairs
    ]
    assert abs(raw[1] / raw[0] - 1) > 1e-2, f"it stayed at {raw}"
    assert abs(scaled[1] / scaled[0] - 1) <= 1e-9, f"it moved from {scaled[0]} to {scaled[1]}"


def test_scale_follows_coordinates_and_groups_that_are_kept() -> None:
    s = ish.scales.balanced(oracle())
    kept = ish.Restricted(ish.Scaled(oracle(), s), "layers.1.*")
    found = kept.to_numpy(state().scale(kept))
    name = "layers.1.weight"
    expected = (np.sqrt(state().mean_squares[name]) * oracle().to_numpy(s)[name]) ** -0.5
    assert_close(found[name], expected, "scale", 1e-12)


def test_groups_that_are_not_trained_are_named() -> None:
    one = ish.OptimizerState("SGD", {"layers.0.weight": 0.1})
    with pytest.raises(ModelError, match=r"SGD does not train layers\.0\.bias, layers\.1\.weight, "):
        ish.preconditioned_sharpness(oracle(), optimizer=one)
