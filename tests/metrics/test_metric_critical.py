"""Critical sharpness: closed forms of quadratics, curvature along the gradient of networks, and where nothing is found."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError, NonFiniteError
from invariant_sharpness.estimators.critical_step import critical_step
from invariant_sharpness_numpy import FunctionOracle, quadratic
from zoo import numpy_problem
from zoo.rescaled import assert_invariant_in_balanced_coordinates
from zoo.vectors import assert_close, direction, flat

SEEDS = range(20)


def random_quadratic(seed: int, size: int = 7) -> tuple[Any, Any, Any]:
    """A positive definite quadratic with condition 1000, at a random point; with its matrix and gradient."""
    random = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(random.normal(size=(size, size)))
    H = Q * np.geomspace(1e-2, 10, size) @ Q.T
    theta = random.normal(size=(1, size))
    return quadratic(H, theta), H, H @ theta.ravel()


@pytest.mark.parametrize("seed", SEEDS)
def test_gradient_of_a_quadratic(seed: int) -> None:
    oracle, H, g = random_quadratic(seed)
    assert_close(ish.critical_sharpness(oracle).value, g @ H @ g / (g @ g), "critical sharpness", 1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_other_direction_of_a_quadratic(seed: int) -> None:
    oracle, H, g = random_quadratic(seed)
    D = np.random.default_rng(seed + 100).normal(size=g.size)
    D *= np.sign(D @ g)
    found = ish.critical_sharpness(oracle, direction=oracle.from_numpy({"weight": D[None]}))
    assert_close(found.value, D @ H @ D / (D @ g), "critical sharpness", 1e-6)


@pytest.mark.parametrize("first_step", [1e-6, 1e-2, 1e3])
def test_first_step_does_not_count(first_step: float) -> None:
    oracle, H, g = random_quadratic(0)
    found = ish.critical_sharpness(oracle, first_step=first_step).value
    assert_close(found, g @ H @ g / (g @ g), "critical sharpness", 1e-6)


def test_curvature_along_the_gradient_of_another_loss() -> None:
    """The gradient is that of the first loss, the curvature and the slope are those of the second."""
    first, _, g1 = random_quadratic(3)
    theta = first.to_numpy(first.parameters)["weight"].ravel()
    H2 = np.diag(np.linspace(1.0, 2.0, 7))
    second = quadratic(H2, theta[None])
    expected = g1 @ H2 @ g1 / (g1 @ (H2 @ theta))
    found = ish.critical_sharpness(second, direction=first)
    if expected > 0:
        assert_close(found.value, expected, "relative critical sharpness", 1e-6)
    else:
        assert not found.converged


def test_network_with_a_short_critical_step_has_the_curvature_along_its_gradient() -> None:
    """A parabola beside the loss shortens the step to about 2 / stiffness; what the loss itself adds is g'Hg / g'g, up to third derivatives."""
    oracle = numpy_problem.problem("cross_entropy", biases=True).oracle
    g, H = flat(oracle.gradient(oracle.parameters)), numpy_problem.dense_hessian("cross_entropy", biases=True)
    expected = g @ H @ g / (g @ g)
    errors = []
    for stiffness in (1e2, 1e3, 1e4):
        found = ish.critical_sharpness(stiffened(oracle, stiffness), tolerance=1e-13)
        errors.append(abs((found.value - stiffness) / expected - 1))
    assert errors[2] < errors[1] / 5 < errors[0] / 25, f"{errors}"
    assert errors[2] < 1e-3, f"{errors}"


def stiffened(oracle: Any, stiffness: float) -> FunctionOracle:
    """The loss and a parabola with its minimum where the network is."""
    here = oracle.parameters

    def loss(p: Any) -> float:
        off = oracle.from_numpy(p) - here
        return float(oracle.loss(oracle.from_numpy(p))) + stiffness / 2 * off.dot(off)

    return FunctionOracle(
        oracle.to_numpy(here),
        loss,
        lambda p: dict(oracle.gradient(oracle.from_numpy(p)).arrays),
        lambda _, v: v,
    )


def test_loss_that_never_rises_is_not_found() -> None:
    falling = FunctionOracle(
        {"w": np.ones(2)}, lambda p: -float(p["w"].sum()), lambda _: {"w": -np.ones(2)}, lambda _, v: v
    )
    found = ish.critical_sharpness(falling)
    assert (found.value, found.converged) == (0.0, False)
    assert found.bracket is not None
    assert 0 < found.bracket.upper < 1e-10, f"{found.bracket}"
    assert found.notes[0].startswith("not found: the loss is not higher after any step"), found.notes


def test_loss_that_does_not_depend_on_the_direction_is_not_found() -> None:
    flat_loss = FunctionOracle({"w": np.ones(2)}, lambda _: 1.0, lambda _: {"w": np.ones(2)}, lambda _, v: v)
    found = ish.critical_sharpness(flat_loss)
    assert (found.value, found.converged) == (0.0, False)


def test_uphill_is_a_lower_bound_with_a_reason() -> None:
    oracle, _, _ = random_quadratic(1)
    found = ish.critical_sharpness(oracle, direction=-oracle.gradient(oracle.parameters))
    assert not found.converged
    assert found.bracket is not None
    assert (found.bracket.lower, found.bracket.upper) == (found.value, inf)
    assert "the loss is higher after every step" in found.notes[0], found.notes


def test_minimum_has_no_direction() -> None:
    found = ish.critical_sharpness(quadratic(np.eye(2), np.zeros((1, 2))))
    assert (found.value, found.converged) == (0.0, False)
    assert "the direction is zero" in found.notes[0], found.notes


def test_loss_that_is_not_defined_far_away_counts_as_higher() -> None:
    """-log(1 - x) + x^2 - 2 x ends at x = 1, where it is not higher than at 0 yet."""

    def loss(p: Any) -> float:
        x = p["w"][0]
        if x >= 1:
            msg = "the loss is not finite"
            raise NonFiniteError(msg)
        return float(x**2 - 2 * x)

    oracle = FunctionOracle({"w": np.zeros(1)}, loss, lambda p: {"w": 2 * p["w"] - 2}, lambda _, v: v)
    found = ish.critical_sharpness(oracle)
    assert_close(found.value, 2 / 0.5, "critical sharpness", 1e-6)


def test_search_brackets_monotonically_and_needs_few_losses() -> None:
    """Of a parabola one secant is exact."""
    asked: list[float] = []

    def increase(step: float) -> float:
        asked.append(step)
        return step * (step - 1.3)

    found = critical_step(increase, 0.1, 0.0, 1e-6)
    assert (found.ending, found.losses) == ("found", len(asked))
    assert found.step == pytest.approx(1.3, rel=1e-9)
    assert asked[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert len(asked) <= 8, f"{asked}"


def test_no_second_derivative_is_taken() -> None:
    oracle, _, _ = random_quadratic(2)

    def refused(*_: Any) -> Any:
        raise AssertionError

    bare = FunctionOracle(
        oracle.to_numpy(oracle.parameters), lambda p: oracle.loss(oracle.from_numpy(p)), refused, refused
    )
    along = oracle.gradient(oracle.parameters)
    assert ish.critical_sharpness(bare, direction=along).value == ish.critical_sharpness(oracle).value


def test_it_is_invariant_in_coordinates_that_move_with_the_parameters() -> None:
    assert_invariant_in_balanced_coordinates(
        ish.critical_sharpness, numpy_problem.problem("cross_entropy", biases=True).oracle
    )


def test_direction_of_another_network_is_refused() -> None:
    oracle = numpy_problem.problem("cross_entropy", biases=True).oracle
    with pytest.raises(ModelError, match="the directions belong to another network"):
        ish.critical_sharpness(oracle, direction=direction(random_quadratic(0)[0]))


@pytest.mark.parametrize("wrong", [0.0, -1.0, inf])
def test_first_step_has_to_be_positive(wrong: float) -> None:
    with pytest.raises(ValueError, match="first_step"):
        ish.critical_sharpness(random_quadratic(0)[0], first_step=wrong)


def test_value_is_at_most_the_largest_eigenvalue_of_a_quadratic() -> None:
    for seed in SEEDS:
        oracle, H, _ = random_quadratic(seed)
        assert ish.critical_sharpness(oracle).value <= np.linalg.eigvalsh(H)[-1] * (1 + 1e-6), f"seed {seed}"
        assert flat(oracle.parameters).size == 7
