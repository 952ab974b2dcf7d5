"""Sharpness of the best posterior (62): its gradient, its minimum, its limit and its invariance."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import invariant_sharpness as ish
from invariant_sharpness.estimators.posterior_fit import SampledObjective, best_scales, fitted_scales
from invariant_sharpness.parameters.matrices import weights_alone
from invariant_sharpness.prng import normals
from invariant_sharpness.solvers.rows_columns import solve
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle, ReluNetwork
from zoo.invariant_metrics import relative_change
from zoo.problems import Problem, problems

H = np.random.default_rng(6).uniform(0.1, 5, (3, 4))
W = np.random.default_rng(7).normal(size=(3, 4))
DRAWS = range(5)


def quadratic_oracle() -> FunctionOracle:
    """The loss half the sum of h w^2 around the weights, so that its rise under noise is half the sum of h times the noise's square."""
    return FunctionOracle(
        {"W": W},
        lambda p: float(np.sum(H * (p["W"] - W) ** 2) / 2),
        lambda p: {"W": H * (p["W"] - W)},
        lambda _, v: {"W": H * v["W"]},
    )


def network_oracle() -> NetworkOracle:
    random = np.random.default_rng(3)
    shapes = [(6, 4), (5, 6), (3, 5)]
    network = ReluNetwork(tuple(random.normal(size=s) for s in shapes), tuple(random.normal(size=s[0]) for s in shapes))
    return NetworkOracle(network, random.normal(size=(20, 4)), random.integers(0, 3, 20))


def objective(oracle: ish.CurvatureOracle, lam: float) -> SampledObjective:
    h, weights = ish.hessian_diagonal(oracle).arrays, oracle.to_numpy(oracle.parameters)
    names = [(family, family.weight.name) for family in weights_alone(oracle.groups)]
    return SampledObjective(oracle, [best_scales(f, weights[n], h[n], lam) for f, n in names], DRAWS, seed=1)


def test_gradient_is_that_of_differences() -> None:
    sampled = objective(network_oracle(), lam=3.0)
    random = np.random.default_rng(0)
    point, step = 0.3 * random.normal(size=sampled.start.shape), 1e-5
    _, slope = sampled(point)
    for direction in random.normal(size=(5, len(point))):
        expected = (sampled(point + step * direction)[0] - sampled(point - step * direction)[0]) / (2 * step)
        assert slope @ direction == pytest.approx(expected, rel=1e-6), f"{slope @ direction}, by differences {expected}"


def test_fit_is_the_certified_minimum_of_a_quadratic() -> None:
    """There (62) with fixed draws is (17) with half of h times the mean of the squared noise."""
    oracle, lam = quadratic_oracle(), 2.0
    squares = np.mean([oracle.to_numpy(normals(oracle, 1, index))["W"] ** 2 for index in DRAWS], axis=0)
    expected = solve(H * squares / 2, W**2 / (2 * lam)).value
    sampled = objective(oracle, lam)
    value, _ = sampled(fitted_scales(sampled, tolerance=1e-12, max_iterations=500).point)
    assert value == pytest.approx(expected, rel=1e-8), f"{value}, by the certified solver {expected}"


class RoundedBowl:
    """A quadratic whose value at the first point near its minimum is rounded below all others: no step lowers it any more."""

    start = np.zeros(6)
    curvatures = np.linspace(0.1, 1, 6)

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._lowest: np.ndarray | None = None

    def penalty(self, _: np.ndarray) -> float:
        return 0.5

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        slope = self.curvatures * (point - 0.3)
        value = float(slope @ (point - 0.3)) / 2
        if value < 1e-7 and self._lowest is None:
            self._lowest = point.copy()
        is_lowest = self._lowest is not None and np.array_equal(point, self._lowest)
        return value - 1e-6 * is_lowest, self._sign * slope


@pytest.mark.parametrize(("sign", "converged"), [(1, True), (-1, False)], ids=["rounding", "a wrong slope"])
def test_fit_that_ends_without_a_lower_value_has_converged_where_its_slope_says_so(sign: int, converged: bool) -> None:
    fit = fitted_scales(RoundedBowl(sign), tolerance=1e-8, max_iterations=200)  # pyright: ignore[reportArgumentType]
    assert fit.converged == converged, f"it ends at {fit.point}, and the minimum is at 0.3"


def test_value_of_a_quadratic_is_normalized_sharpness_over_root_two() -> None:
    """Erratum E3: (17) lacks the half of Taylor's formula."""
    estimate = ish.posterior_sharpness(quadratic_oracle(), lam=2.0, draws=400)
    expected = ish.normalized_sharpness(quadratic_oracle(), lam=2.0).value / sqrt(2)
    assert estimate.standard_error is not None
    off = (estimate.value - expected) / estimate.standard_error
    assert abs(off) < 4, f"{estimate} is {off:.1f} standard errors away from {expected}"
    assert estimate.standard_error < 0.03 * expected, f"{estimate}: too inaccurate to tell"


@pytest.mark.slow
def test_fresh_draws_take_away_the_bias_of_the_fit() -> None:
    """The mean over seeds of a minimum over few draws is too small, that on fresh draws is not."""
    expected = ish.normalized_sharpness(quadratic_oracle(), lam=2.0).value / sqrt(2)
    values = [ish.posterior_sharpness(quadratic_oracle(), lam=2.0, draws=4, seed=seed).value for seed in range(60)]
    mean, error = np.mean(values), np.std(values, ddof=1) / sqrt(60)
    assert mean > expected - 3 * error, (
        f"the mean over seeds {mean:.3f} ± {error:.3f} is below the minimum {expected:.3f}"
    )


def test_value_is_that_of_the_fitted_noise_on_other_draws() -> None:
    oracle = network_oracle()
    estimate = ish.posterior_sharpness(oracle, lam=3.0, draws=5, seed=1)
    sampled = objective(oracle, lam=3.0)
    point = fitted_scales(sampled, tolerance=1e-6, max_iterations=200).point
    deviations, here = sampled.deviations(point), oracle.parameters
    losses: list[Any] = []
    for index in range(5, 10):
        noise = deviations * normals(oracle, 1, index)
        losses.append((oracle.loss(here + noise) + oracle.loss(here - noise)) / 2)
    expected = np.mean(losses) - oracle.loss(here) + sampled.penalty(point)
    assert estimate.value == pytest.approx(expected, rel=1e-12), f"{estimate.value} instead of {expected}"
    assert estimate.standard_error == pytest.approx(np.std(losses, ddof=1) / sqrt(5), rel=1e-12)


@pytest.mark.slow
@given(problem=problems())
def test_value_does_not_move_under_row_and_column_rescaling(problem: Problem) -> None:
    """Noise by noise: the draws are the same, and so is every step of the fit."""
    before, after = (
        ish.posterior_sharpness(o, lam=5.0, draws=3, max_iterations=15).value for o in (problem.oracle, problem.moved)
    )
    change = relative_change(before, after)
    assert change <= 1e-8, f"it moved from {before!r} to {after!r} ({change:.1e}) on {problem}"


@pytest.mark.slow
def test_lambda_is_more_than_a_factor() -> None:
    """The paper's footnote 7, and the difference from (17)."""
    oracle = network_oracle()
    values = [ish.posterior_sharpness(oracle, lam=lam).value * sqrt(lam) for lam in (0.5, 500.0)]
    assert abs(values[1] / values[0] - 1) > 0.2, f"times the root of lambda the values are {values}: no counterexample"


@pytest.mark.slow
def test_equal_seeds_give_equal_values_and_others_do_not() -> None:
    first, again, other = (ish.posterior_sharpness(network_oracle(), draws=3, seed=s).value for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_what_costs_nothing_gets_no_noise() -> None:
    still = FunctionOracle({"W": W}, lambda _: 0.5, lambda p: {"W": 0 * p["W"]}, lambda _, v: {"W": 0 * v["W"]})
    estimate = ish.posterior_sharpness(still)
    assert (estimate.value, estimate.standard_error, estimate.converged) == (0.0, 0.0, True)


@pytest.mark.parametrize("wrong", [{"lam": 0.0}, {"draws": 1}], ids=str)
def test_values_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name}="):
        ish.posterior_sharpness(quadratic_oracle(), **wrong)
