"""Worst-case sharpness and its adaptive form, against secular equations, all corners of a box, and the plain formula."""

from __future__ import annotations

from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

import invariant_sharpness as ish
from invariant_sharpness.coordinates import magnitudes
from invariant_sharpness.errors import LossError, NonFiniteError
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle, ReluNetwork
from zoo import numpy_problem
from zoo.rises import factors, maximum_in_ball, plain_loss, problem, quadratic, random_quadratic, rescaled, with_zeros
from zoo.seeds import seeds


@given(seed=st.integers(0, 2**20), radius=st.floats(0.01, 10))
def test_maximum_of_a_quadratic_loss_is_that_of_the_secular_equation(seed: int, radius: float) -> None:
    g, H = random_quadratic(seed)
    expected = maximum_in_ball(g, H, radius) / 1.5
    found = ish.worst_case_sharpness(quadratic(g, H), radius=radius, tolerance=1e-7, max_iterations=2000).value
    assert found == pytest.approx(expected, rel=1e-4), f"{found}, but the maximum is {expected}"
    assert found <= expected * (1 + 1e-12), f"{found} is above the maximum {expected}"


def test_at_a_minimum_it_is_half_the_largest_eigenvalue() -> None:
    _, H = random_quadratic(3)
    found = ish.worst_case_sharpness(quadratic(np.zeros(6), H), radius=0.2, tolerance=1e-9, max_iterations=2000)
    assert found.value == pytest.approx(0.2**2 * 3 / 2 / 1.5, rel=1e-6), f"{found}"


@seeds(5)
def test_maximum_in_the_box_is_at_the_best_corner(seed: int) -> None:
    random = np.random.default_rng(seed)
    root, theta, rho = random.normal(size=(6, 6)), random.normal(size=6), 0.3
    g, H = random.normal(size=6), root @ root.T
    moves = rho * theta * np.array(list(product([-1, 1], repeat=6)))
    expected = float(np.max(moves @ g + np.einsum("ni,ij,nj->n", moves, H, moves) / 2))
    oracle = quadratic(g, H, point=theta)
    found = ish.worst_case_adaptive_sharpness(oracle, radius=rho, norm="linf", starts=50, tolerance=1e-9).value
    assert found == pytest.approx(expected, rel=1e-12), f"{found}, but the best of 64 corners has {expected}"


def test_a_local_maximum_inside_the_ball_is_found() -> None:
    oracle = quadratic(np.array([0.1, 0.2]), np.diag([-1.0, -2.0]))
    found = ish.worst_case_sharpness(oracle, radius=1.0, tolerance=1e-6, max_iterations=5000)
    expected = (0.1**2 / 1 + 0.2**2 / 2) / 2 / 1.5
    assert found.value == pytest.approx(expected, rel=1e-5), f"{found}, but the maximum inside is {expected}"


def test_where_nothing_rises_it_is_zero() -> None:
    found = ish.worst_case_sharpness(quadratic(np.zeros(3), -np.eye(3)))
    assert found.value == 0, f"{found} at the highest point"
    assert found.converged, f"{found}"


def test_it_says_that_it_is_a_lower_bound() -> None:
    found = ish.worst_case_sharpness(problem().oracle)
    assert found.interval() == (found.value, inf), f"interval {found.interval()}"
    assert "lower bound" in str(found), str(found)


def test_too_few_steps_are_reported() -> None:
    found = ish.worst_case_sharpness(problem().oracle, max_iterations=1, tolerance=1e-6)
    assert not found.converged, f"{found} with a certificate of {found.certificate}"


def test_random_points_of_the_ball_are_not_higher() -> None:
    p, found = problem(), ish.worst_case_sharpness(problem().oracle, radius=0.3).value
    draws = np.random.default_rng(0).normal(size=(20_000, p.theta.size))
    losses = p.mean_loss(p.theta + 0.3 * draws / np.linalg.norm(draws, axis=1, keepdims=True))
    best = float((losses.max() - p.mean_loss(p.theta[None]).item()) / (1 + p.mean_loss(p.theta[None]).item()))
    assert found > best, f"{found}, but the best of 20,000 random points has {best}"


def test_scipy_does_not_find_more_in_a_network_with_zero_weights() -> None:
    """Sequential quadratic programming with the plain loss, its solutions put back into the ball."""
    oracle, theta = with_zeros()
    ball = {"type": "ineq", "fun": lambda v: 0.25 - v @ v}
    starts = np.random.default_rng(1).normal(size=(4, theta.size))
    ends = [
        minimize(
            lambda v: -plain_loss(theta * (1 + v)), 0.4 * v / np.linalg.norm(v), constraints=ball, method="SLSQP"
        ).x
        for v in starts
    ]
    expected = max(plain_loss(theta * (1 + v * min(1, 0.5 / np.linalg.norm(v)))) for v in ends) - plain_loss(theta)
    found = ish.worst_case_adaptive_sharpness(oracle, tolerance=1e-7, max_iterations=1000).value
    assert found >= expected * (1 - 1e-6), f"{found}, but SciPy finds {expected}"
    assert found <= expected * (1 + 1e-4), f"{found}, but SciPy finds {expected} only"


def test_zero_weights_count_as_the_best_corner_of_the_others() -> None:
    """The plain formula: by hand over the corners of the box of eight parameters, two of which are zero."""
    random = np.random.default_rng(5)
    theta, root = np.array([0.0, 1.0, -2.0, 0.5, 0.0, 3.0, -0.1, 1.5]), random.normal(size=(8, 8))
    oracle = quadratic(random.normal(size=8), root @ root.T, point=theta)
    signs = np.array(list(product([-1, 1], repeat=8)))
    losses = [oracle.loss(oracle.from_numpy({"w": theta + 0.1 * np.abs(theta) * sign})) for sign in signs]
    found = ish.worst_case_adaptive_sharpness(oracle, radius=0.1, norm="linf", starts=50, tolerance=1e-9).value
    assert found == pytest.approx(max(losses) - 0.5, rel=1e-12), f"{found} instead of {max(losses) - 0.5}"


def test_adaptive_sharpness_is_the_raw_one_in_relative_coordinates() -> None:
    """With positive parameters, whose signs do not turn the random starts."""
    oracle = ish.Moved(problem().oracle, abs(problem().oracle.parameters))
    raw = ish.worst_case_sharpness(ish.Scaled(oracle, magnitudes(oracle)), radius=0.5).value
    expected = raw * (1 + oracle.loss(oracle.parameters))
    found = ish.worst_case_adaptive_sharpness(oracle, radius=0.5).value
    assert found == pytest.approx(expected, rel=1e-12), f"{found} instead of {expected}"


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_adaptive_sharpness_is_bitwise_invariant_under_powers_of_two(norm: str) -> None:
    before = ish.worst_case_adaptive_sharpness(problem().oracle, norm=norm)
    after = ish.worst_case_adaptive_sharpness(rescaled(problem().oracle), norm=norm)
    assert before == after, f"{before!r} became {after!r}"


def test_the_raw_one_of_a_moved_network_is_that_in_the_inverse_coordinates() -> None:
    """The transformation law, bit by bit; and the counterexample: the value itself moves."""
    oracle, moved = problem().oracle, rescaled(problem().oracle)
    inverse = factors(moved.parameters, oracle.parameters)
    value = ish.worst_case_sharpness(moved).value
    expected = ish.worst_case_sharpness(ish.Scaled(oracle, inverse)).value
    assert value == expected, f"{value!r}, by the law {expected!r}"
    before = ish.worst_case_sharpness(oracle).value
    assert value > 10 * before, f"it moved from {before} to {value} only: the counterexample is none"


def test_the_ball_of_a_rescaled_network_contains_the_zero_function() -> None:
    """Dinh et al. (2017): with ``alpha = r / |W1|`` the first layer can be taken away altogether."""
    random = np.random.default_rng(2)
    network, radius = ReluNetwork([random.normal(size=(5, 4)), random.normal(size=(3, 5))]), 0.05
    x = random.normal(size=(30, 4))
    oracle = NetworkOracle(network, x, network(x).argmax(axis=1))
    alpha = radius / np.linalg.norm(network.weights[0])
    moved = NetworkOracle(
        ReluNetwork([network.weights[0] * alpha, network.weights[1] / alpha]), x, network(x).argmax(1)
    )
    loss = oracle.loss(oracle.parameters)
    least = (np.log(3) - loss) / (1 + loss)
    before, after = ish.worst_case_sharpness(oracle).value, ish.worst_case_sharpness(moved).value
    assert after >= least > before, f"before {before}, after {after}; the zero function rises by {least}"


def test_adaptive_sharpness_moves_under_a_linear_map_that_mixes_parameters() -> None:
    """A rotation by 45 degrees: not declared, and not survived."""
    H, R = np.diag([1.0, 100.0]), np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)
    theta = np.array([3.0, 0.1])
    before = ish.worst_case_adaptive_sharpness(quadratic(np.zeros(2), H, point=theta)).value
    after = ish.worst_case_adaptive_sharpness(quadratic(np.zeros(2), R @ H @ R.T, point=R @ theta)).value
    assert after > 10 * before, f"{before} became {after}: the counterexample is none"


def test_scale_of_the_outputs_does_not_count_under_the_normalized_loss() -> None:
    oracle = numpy_problem.problem("normalized_cross_entropy", biases=True).oracle
    last = [g.name for g in oracle.groups][-2:]
    scale = {g.name: np.full(g.shape, 8.0 if g.name in last else 1.0) for g in oracle.groups}
    moved = ish.Moved(oracle, oracle.parameters * oracle.from_numpy(scale))
    before, after = (ish.worst_case_adaptive_sharpness(o, norm="linf", radius=0.01).value for o in (oracle, moved))
    assert before == pytest.approx(after, rel=1e-12), f"{before!r} became {after!r}"


def test_equal_seeds_give_equal_bits() -> None:
    first, again = (ish.worst_case_sharpness(problem().oracle, seed=7) for _ in range(2))
    assert first == again, f"{first!r} and {again!r}"


@pytest.mark.parametrize("wrong", [{"radius": 0.0}, {"radius": inf}, {"starts": 0}, {"max_iterations": 0}])
def test_wrong_options_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ish.worst_case_sharpness(problem().oracle, **wrong)


def test_unknown_norm_is_named() -> None:
    with pytest.raises(ValueError, match='take "l2" or "linf"'):
        ish.worst_case_adaptive_sharpness(problem().oracle, norm="l1")


def test_negative_loss_is_refused_where_it_would_be_divided_by() -> None:
    with pytest.raises(LossError, match="add a constant to the loss"):
        ish.worst_case_sharpness(quadratic(np.ones(2), np.eye(2), loss=-2.0))


def test_infinite_loss_in_the_ball_asks_for_a_smaller_one() -> None:
    oracle = FunctionOracle(
        {"w": np.ones(2)}, lambda p: 1 / max(2 - p["w"][0], 1e-320), lambda _: {"w": np.ones(2)}, lambda _, v: v
    )
    with pytest.raises(NonFiniteError, match="smaller radius"):
        ish.worst_case_sharpness(oracle, radius=5.0)


def test_rise_within_rounding_is_a_note() -> None:
    found = ish.worst_case_sharpness(quadratic(np.ones(2) * 1e-18, np.eye(2) * 1e-18))
    assert "no more than it is rounded" in found.notes[0], f"{found} with the notes {found.notes}"
