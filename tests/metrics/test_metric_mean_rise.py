"""Mean rise under noise, against closed forms, the plain formula and its declared invariances."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.coordinates import balanced, magnitudes
from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.estimators.perturbations import Noise
from invariant_sharpness_numpy import FunctionOracle
from zoo import numpy_problem
from zoo.rises import factors, plain_loss, problem, quadratic, random_quadratic, rescaled, with_zeros
from zoo.seeds import seeds
from zoo.vectors import flat


def test_mean_over_seeds_is_half_the_trace() -> None:
    """``sigma^2 tr H / 2``, exactly for a quadratic loss at any point; the trace is 6."""
    g, H = random_quadratic(0)
    values = [ish.expected_sharpness(quadratic(g, H), scale=0.2, seed=seed).value for seed in range(200)]
    expected, error = 0.2**2 * np.trace(H) / 2, np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - expected) < 4 * error, f"{np.mean(values)} ± {error}, but half the trace is {expected}"


def test_intervals_cover_the_truth() -> None:
    g, H = random_quadratic(1)
    truth = 0.2**2 * np.trace(H) / 2
    intervals = [
        ish.expected_sharpness(quadratic(g, H), scale=0.2, probes=32, seed=seed).interval() for seed in range(300)
    ]
    share = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.91 <= share <= 0.98, f"95 % intervals hold the truth for {share:.1%} of 300 seeds"


@pytest.mark.parametrize(("noise", "second", "fourth"), [("normal", 1.0, 3.0), ("uniform", 1 / 3, 1 / 5)])
def test_noise_has_the_moments_of_its_distribution(noise: Noise, second: float, fourth: float) -> None:
    """Of the loss ``sum theta^4``: the mean of ``(1 + rho u)^4 - 1`` is ``6 rho^2 E[u^2] + rho^4 E[u^4]``."""
    theta, rho = np.linspace(0.5, 1, 2000), 0.8
    oracle = FunctionOracle(
        {"w": theta}, lambda p: float((p["w"] ** 4).sum()), lambda p: {"w": 4 * p["w"] ** 3}, lambda _, v: {"w": v["w"]}
    )
    expected = (theta**4).sum() * (6 * rho**2 * second + rho**4 * fourth)
    found = ish.average_adaptive_sharpness(oracle, scale=rho, noise=noise, probes=200)
    assert abs(found.value - expected) < 4 * (found.standard_error or 0.0), f"{found}, but by the moments {expected}"
    assert found.value == pytest.approx(expected, rel=0.02), f"{found}, but by the moments {expected}"


def test_pairs_cancel_the_gradient() -> None:
    """A loss that is linear does not rise on average, and every pair says so."""
    found = ish.expected_sharpness(quadratic(np.ones(6) * 1024, np.zeros((6, 6)), point=np.zeros(6)), probes=8)
    assert (abs(found.value), found.standard_error) <= (1e-12, 1e-12), f"{found} for a linear loss"


def test_variance_of_a_pair_is_that_of_the_quadratic_form() -> None:
    r"""``2 |H|_F^2 sigma^4 / 4`` whatever the gradient: without pairs it would be more by ``sigma^2 |g|^2``."""
    g, H = random_quadratic(2)
    found = ish.expected_sharpness(quadratic(100 * g, H), scale=0.1, probes=4000)
    expected = np.sqrt(np.sum(H**2) / 2 / 4000) * 0.1**2
    assert found.standard_error == pytest.approx(expected, rel=0.1), f"{found.standard_error} instead of {expected}"


@seeds(3)
def test_zero_weights_do_not_move(seed: int) -> None:
    """The plain formula, draw by draw: the same noise times the magnitude of each parameter, and its pair."""
    oracle, theta = with_zeros()
    noise = [flat(prng.normals(oracle, seed, index)) for index in range(8)]
    losses = [plain_loss(theta + 0.1 * sign * theta * v) for v in noise for sign in (1, -1)]
    expected = float(np.mean(losses)) - plain_loss(theta)
    found = ish.average_adaptive_sharpness(oracle, probes=8, seed=seed).value
    assert found == pytest.approx(expected, rel=1e-10), f"{found} instead of {expected}"


def test_adaptive_sharpness_is_the_raw_one_in_relative_coordinates() -> None:
    """With positive parameters, whose signs do not turn the noise."""
    oracle = ish.Moved(problem().oracle, abs(problem().oracle.parameters))
    expected = ish.expected_sharpness(ish.Scaled(oracle, magnitudes(oracle)), scale=0.1)
    found = ish.average_adaptive_sharpness(oracle, scale=0.1)
    assert found.value == pytest.approx(expected.value, rel=1e-11), f"{found} instead of {expected}"


def test_to_second_order_it_is_the_diagonal_weighted_by_squared_parameters() -> None:
    theta = problem().theta
    h = np.diag(numpy_problem.dense_hessian("cross_entropy", biases=True))
    expected = 0.5 * 1e-4**2 * float(theta**2 @ h)
    found = ish.average_adaptive_sharpness(problem().oracle, scale=1e-4, probes=400)
    error = found.standard_error or 0.0
    assert abs(found.value - expected) < 4 * error, f"{found}, by the dense Hessian {expected}"
    assert error < 0.2 * expected, f"an error of {error} says nothing about {expected}"


@pytest.mark.parametrize("noise", ["normal", "uniform"])
def test_adaptive_sharpness_is_bitwise_invariant_under_powers_of_two(noise: Noise) -> None:
    oracles = problem().oracle, rescaled(problem().oracle)
    before, after = (ish.average_adaptive_sharpness(o, noise=noise) for o in oracles)
    assert before == after, f"{before!r} became {after!r}"


def test_adaptive_sharpness_is_invariant_under_negative_factors() -> None:
    """``tanh`` is odd: a hidden unit may change its sign, in and out."""
    before, after = (ish.average_adaptive_sharpness(odd_network(sign)) for sign in (1.0, -1.0))
    assert before == after, f"{before!r} became {after!r}"


def odd_network(sign: float) -> FunctionOracle:
    weights = np.array([0.7, -1.2, 0.4]), np.array([1.5, 0.3, -0.8])
    return FunctionOracle(
        {"in": sign * weights[0], "out": sign * weights[1]},
        lambda p: float((p["out"] @ np.tanh(p["in"]) - 1) ** 2),
        lambda p: p,
        lambda _, v: v,
    )


def test_expected_sharpness_is_bitwise_invariant_in_equivariant_coordinates() -> None:
    oracles = problem().oracle, rescaled(problem().oracle)
    before, after = (ish.expected_sharpness(ish.Scaled(o, magnitudes(o))) for o in oracles)
    assert before == after, f"{before!r} became {after!r}"


def test_expected_sharpness_is_invariant_in_balanced_coordinates() -> None:
    oracles = problem().oracle, rescaled(problem().oracle)
    before, after = (ish.expected_sharpness(ish.Scaled(o, balanced(o))).value for o in oracles)
    assert after == pytest.approx(before, rel=1e-10), f"{before!r} became {after!r}"


def test_expected_sharpness_of_a_moved_network_is_that_in_the_inverse_coordinates() -> None:
    """The transformation law, bit by bit; and the counterexample: the value itself moves."""
    oracle, moved = problem().oracle, rescaled(problem().oracle)
    value = ish.expected_sharpness(moved)
    expected = ish.expected_sharpness(ish.Scaled(oracle, factors(moved.parameters, oracle.parameters)))
    assert value == expected, f"{value!r}, by the law {expected!r}"
    before = ish.expected_sharpness(oracle).value
    assert abs(value.value) > 10 * abs(before), f"it moved from {before} to {value} only: the counterexample is none"


def test_adaptive_sharpness_moves_under_a_linear_map_that_mixes_parameters() -> None:
    """A rotation by 45 degrees: to second order from ``theta_1^2 h_1 + theta_2^2 h_2`` to ``|theta|^2 tr H / 2``."""
    H, R, theta = np.diag([1.0, 100.0]), np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2), np.array([3.0, 0.1])
    before = ish.average_adaptive_sharpness(quadratic(np.zeros(2), H, point=theta)).value
    after = ish.average_adaptive_sharpness(quadratic(np.zeros(2), R @ H @ R.T, point=R @ theta)).value
    assert after > 10 * before, f"{before} became {after}: the counterexample is none"


def test_scale_of_the_outputs_does_not_count_under_the_normalized_loss() -> None:
    oracle = numpy_problem.problem("normalized_cross_entropy", biases=True).oracle
    last = [g.name for g in oracle.groups][-2:]
    scale = {g.name: np.full(g.shape, 8.0 if g.name in last else 1.0) for g in oracle.groups}
    moved = ish.Moved(oracle, oracle.parameters * oracle.from_numpy(scale))
    before, after = ish.average_adaptive_sharpness(oracle).value, ish.average_adaptive_sharpness(moved).value
    assert before == pytest.approx(after, rel=1e-12), f"{before!r} became {after!r}"


def test_equal_seeds_give_equal_bits_and_different_ones_do_not() -> None:
    first, again, other = (ish.expected_sharpness(problem().oracle, seed=seed) for seed in (5, 5, 6))
    assert first == again, f"{first!r} and {again!r}"
    assert first.value != other.value, f"{first.value!r} with two seeds"


@pytest.mark.parametrize("wrong", [{"scale": -1.0}, {"scale": inf}, {"probes": 1}])
def test_wrong_options_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ish.average_adaptive_sharpness(problem().oracle, **wrong)


def test_unknown_noise_is_named_with_those_there_are() -> None:
    unknown: Any = "laplace"
    with pytest.raises(ValueError, match=r"noise='laplace' is not known: take \"normal\" or \"uniform\""):
        ish.average_adaptive_sharpness(problem().oracle, noise=unknown)


def test_infinite_loss_asks_for_less_noise() -> None:
    oracle = FunctionOracle({"w": np.ones(2)}, lambda p: inf if p["w"][0] > 1 else 1.0, lambda p: p, lambda _, v: v)
    with pytest.raises(NonFiniteError, match="smaller radius, scale or epsilon"):
        ish.expected_sharpness(oracle)
