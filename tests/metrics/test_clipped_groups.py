"""A sampled group whose trace comes out negative counts zero, and has an error that says so."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HessianDiagonal
from invariant_sharpness_numpy import quadratic


@cache
def oracle() -> ish.CurvatureOracle:
    return quadratic(np.eye(4), np.array([[1.0, 2.0], [2.0, 4.0]]))


def sampled(mean: float, deviation: float) -> HessianDiagonal:
    """A diagonal by ten parts whose sum has this mean and, of the mean, this standard error."""
    noise = np.random.default_rng(0).normal(size=10)
    noise = (noise - noise.mean()) / noise.std(ddof=1) * deviation * 10**0.5
    parts = np.repeat((mean + noise)[:, None, None] / 4, 4, axis=1).reshape(10, 2, 2)
    return HessianDiagonal({"weight": GroupDiagonal(parts.mean(axis=0), "probes", parts)}, probes=64)


@pytest.mark.parametrize("mean", [-3.0, -1.0, 0.0, 0.3, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("quantile", [1.0, 2.0, 3.25])
def test_the_error_reaches_over_every_trace_that_the_samples_allow(mean: float, quantile: float) -> None:
    """By as many standard errors of the trace as of the value, up or down, and the root of what is then there."""
    found = ish.matrix_normalized_sharpness(oracle(), diagonal=sampled(mean, 1.0))
    assert found.standard_error is not None
    for true in (mean - quantile, mean + quantile):
        value = (25 * max(true, 0.0)) ** 0.5
        assert abs(value - found.value) <= quantile * found.standard_error * (1 + 1e-9), f"{found}, true {value}"


def test_a_clipped_group_is_not_called_exact() -> None:
    found = ish.matrix_normalized_sharpness(oracle(), diagonal=sampled(-0.5, 1.0))
    assert found.value == 0
    assert found.degrees_of_freedom == 9
    assert "exact" not in str(found), str(found)
    assert "negative" in found.per_group["weight"].note


def test_far_from_zero_the_error_is_that_of_the_tangent() -> None:
    found = ish.matrix_normalized_sharpness(oracle(), diagonal=sampled(1e4, 1.0))
    assert found.standard_error == pytest.approx(0.5 * 5 / 1e4**0.5, rel=1e-3)


@pytest.mark.parametrize("metric", [ish.normalized_sharpness, ish.parameter_normalized_sharpness])
def test_noise_that_is_clipped_is_bracketed_from_below_and_above(metric: ish.Metric[...]) -> None:
    """The true curvature is zero, or four ones: the noisy value is neither, and the interval holds both."""
    for mean, weights in ((0.0, 0.0), (4.0, 1.0)):
        noise = np.random.default_rng(1).normal(size=(10, 2, 2)) * 4
        parts = mean / 4 + noise - noise.mean(axis=0) + np.array([[1.0, -1.0], [-1.0, 1.0]])
        diagonal = HessianDiagonal({"weight": GroupDiagonal(parts.mean(axis=0), "probes", parts)}, probes=64)
        low, high = metric(oracle(), diagonal=diagonal).interval()
        true = ish.normalized_sharpness if metric is ish.normalized_sharpness else ish.parameter_normalized_sharpness
        exact = HessianDiagonal({"weight": GroupDiagonal(np.full((2, 2), weights), "exact")})
        assert low <= true(oracle(), diagonal=exact).value <= high
