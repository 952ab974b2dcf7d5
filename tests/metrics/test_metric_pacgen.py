"""PACGen and the two Lipschitz constants of the Hessian, against dense Hessians and closed forms."""

from __future__ import annotations

from math import log, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import invariant_sharpness as ish
from invariant_sharpness.metrics.pacgen_bound import perturbation_levels
from invariant_sharpness.prng import signs
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle, ReluNetwork
from zoo.invariant_metrics import relative_change
from zoo.numpy_problem import dense_hessian, problem
from zoo.problems import Problem, problems
from zoo.vectors import hessian_by_columns

CUBES = np.array([3.0, 0.5, 7.0, 1.0])


def cubic_oracle(point: Any) -> FunctionOracle:
    """The loss sum c_i t_i^3 / 6, whose Hessian diag(c t) is Lipschitz with constants that are known."""
    return FunctionOracle(
        {"t": np.asarray(point)},
        lambda p: float(np.sum(CUBES * p["t"] ** 3) / 6),
        lambda p: {"t": CUBES * p["t"] ** 2 / 2},
        lambda p, v: {"t": CUBES * p["t"] * v["t"]},
    )


def network_of_89_parameters(size: float = 1.0) -> NetworkOracle:
    random = np.random.default_rng(2)
    shapes = [(7, 5), (4, 7), (3, 4)]
    weights = tuple(size * random.normal(size=shape) for shape in shapes)
    network = ReluNetwork(weights, tuple(size * random.normal(size=rows) for rows, _ in shapes))
    return NetworkOracle(network, random.normal(size=(20, 5)), random.integers(0, 3, 20))


def test_value_is_the_formula_on_a_dense_hessian() -> None:
    p = problem("cross_entropy", True)
    gamma, epsilon, rho = 0.2, 0.05, 0.7
    h, theta = np.diag(dense_hessian("cross_entropy", True)), np.abs(p.theta)
    widths = gamma * theta + epsilon
    inner = np.maximum(h + rho * sqrt(len(h)) * widths, 0)
    expected = float(np.sum(np.log((theta + widths) * np.maximum(np.sqrt(inner), 1 / widths))))
    value = ish.pacgen(p.oracle, gamma=gamma, epsilon=epsilon, rho=rho).value
    assert value == pytest.approx(expected, rel=1e-9), f"{value} instead of {expected}"


def test_value_is_the_divergence_of_uniform_distributions() -> None:
    """Of a posterior that lies within the prior: the logarithm of the ratio of their lengths."""
    oracle, rho = network_of_89_parameters(), 2.0
    theta, h = oracle.to_numpy(oracle.parameters), ish.hessian_diagonal(oracle).arrays
    total = 0.0
    for name, values in theta.items():
        widths = 0.1 * np.abs(values) + 0.1
        levels = perturbation_levels(h[name], widths, rho=rho, parameters=89)
        prior = np.abs(values) + widths
        assert (np.abs(values) + levels <= prior).all(), f"the posterior of {name} reaches out of its prior"
        total += float(np.sum(np.log(2 * prior) - np.log(2 * levels)))
    value = ish.pacgen(oracle, rho=rho).value
    assert value == pytest.approx(total, rel=1e-13), f"{value}, but the divergence is {total}"


def test_without_epsilon_and_rho_it_saturates() -> None:
    """Where every parameter is small for its curvature the value is 89 ln 11 = 213.41, whatever the network."""
    estimate = ish.pacgen(network_of_89_parameters(0.5), gamma=0.1, epsilon=0.0, rho=0.0)
    assert estimate.value == pytest.approx(89 * log(11), rel=1e-13), f"{estimate.value} instead of {89 * log(11)}"
    assert estimate.value == pytest.approx(213.41, abs=0.005)
    assert estimate.notes[0].startswith("89 of 89 parameters are saturated"), estimate.notes


def test_a_zero_that_may_not_move_counts_as_a_saturated_parameter() -> None:
    value = ish.pacgen(cubic_oracle([0.0, 0.0, 0.0, 0.0]), gamma=0.1, epsilon=0.0, rho=0.0).value
    assert value == pytest.approx(4 * log(11), rel=1e-14)


@given(problem=problems(kinds=("numpy mlp",)))
def test_without_epsilon_and_rho_it_is_invariant(problem: Problem) -> None:
    before, after = (ish.pacgen(o, gamma=5.0, epsilon=0.0, rho=0.0).value for o in (problem.oracle, problem.moved))
    change = relative_change(before, after)
    assert change <= 1e-10, f"it moved from {before!r} to {after!r} ({change:.1e}) on {problem}"


@pytest.mark.parametrize("options", [{"rho": 0.0}, {"epsilon": 0.0, "rho": 1.0}, {}], ids=str)
def test_it_moves_under_a_rescaling_of_layers(options: dict[str, float]) -> None:
    oracle = network_of_89_parameters()
    factors = {"layers.0.weight": 16.0, "layers.0.bias": 16.0, "layers.1.weight": 1 / 16}
    scale = oracle.from_numpy({g.name: np.full(g.shape, factors.get(g.name, 1.0)) for g in oracle.groups})
    moved = ish.Moved(oracle, oracle.parameters * scale)
    assert moved.loss(moved.parameters) == oracle.loss(oracle.parameters)
    before, after = (ish.pacgen(o, **options).value for o in (oracle, moved))
    assert abs(after - before) > 0.5, f"with {options} it moved from {before} to {after} only: no counterexample"


def test_constant_of_the_diagonal_is_that_of_a_cubic() -> None:
    estimate = ish.hessian_lipschitz_of_diagonal(cubic_oracle([1.0, -2.0, 0.5, 0.0]))
    assert estimate.value == pytest.approx(7.0, rel=1e-12), f"{estimate.value}, but the largest third derivative is 7"


def test_constant_bounds_what_the_second_order_leaves_out() -> None:
    """``L(w + u) <= L + g.u + u.H u / 2 + rho |u|^3 / 6``, with equality along the steepest third derivative."""
    oracle = cubic_oracle([1.0, -2.0, 0.5, 0.0])
    point, rho = oracle.parameters, ish.hessian_lipschitz_of_diagonal(oracle).value
    steps = [*np.random.default_rng(0).normal(size=(200, 4)), np.array([0.0, 0.0, 1.0, 0.0])]
    shares = []
    for u in (oracle.from_numpy({"t": step}) for step in steps):
        second = oracle.gradient(point).dot(u) + oracle.hessian_vector_product(point, u).dot(u) / 2
        remainder = oracle.loss(point + u) - oracle.loss(point) - second
        shares.append(remainder / (rho * u.norm() ** 3 / 6))
    assert max(shares) <= 1 + 1e-12, f"the remainder is {max(shares)} of its bound"
    assert shares[-1] == pytest.approx(1, rel=1e-12), f"the remainder is {shares[-1]} of its bound where they are equal"


def test_constant_of_the_operator_is_that_of_a_cubic() -> None:
    point = np.array([1.0, -2.0, 0.5, 0.0])
    widths = 0.1 * np.abs(point) + 0.1
    expected = np.max(CUBES * widths) / np.linalg.norm(widths)
    estimate = ish.hessian_lipschitz_of_operator(cubic_oracle(point))
    assert estimate.converged, str(estimate)
    assert estimate.value == pytest.approx(expected, rel=1e-6), f"{estimate.value} instead of {expected}"


def test_constant_of_the_operator_is_the_norm_of_the_dense_change() -> None:
    oracle = network_of_89_parameters()
    theta = oracle.to_numpy(oracle.parameters)
    noise = oracle.to_numpy(signs(oracle, 3, 0))
    shift = oracle.from_numpy({n: (0.1 * np.abs(t) + 0.1) * noise[n] for n, t in theta.items()})
    change = hessian_by_columns(oracle, oracle.parameters + shift) - hessian_by_columns(oracle, oracle.parameters)
    expected = np.linalg.norm(change, 2) / shift.norm()
    value = ish.hessian_lipschitz_of_operator(oracle, draws=1, tolerance=1e-9, seed=3).value
    assert value == pytest.approx(expected, rel=1e-8), f"{value} instead of {expected}"


def test_the_default_constant_is_that_of_the_diagonal() -> None:
    oracle = network_of_89_parameters()
    rho = ish.hessian_lipschitz_of_diagonal(oracle, seed=4).value
    assert ish.pacgen(oracle, seed=4).value == ish.pacgen(oracle, rho=rho, seed=4).value


@pytest.mark.parametrize("wrong", [{"rho": -1.0}, {"gamma": -0.1}, {"gamma": 0.0, "epsilon": 0.0}], ids=str)
def test_values_out_of_range_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ish.pacgen(cubic_oracle([1.0, 1.0, 1.0, 1.0]), **wrong)
