"""Metrics of an oracle whose products are differences of gradients: the error that they state, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness_numpy import FunctionOracle

POINT = np.linspace(-1, 1, 7)
TRACE = float((30 * POINT**4).sum())


class ByDifferences(FunctionOracle):
    """``sum w^6``, of which the Hessian is diagonal, with products by central differences of the gradient."""

    step = 1e-2

    def __init__(self) -> None:
        super().__init__(
            {"w": POINT},
            lambda p: float((p["w"] ** 6).sum()),
            lambda p: {"w": 6 * p["w"] ** 5},
            lambda p, v: {"w": 30 * p["w"] ** 4 * v["w"]},
        )
        self.differences_taken = 0

    def hessian_vector_product(
        self, parameters: ish.ParameterVector, vector: ish.ParameterVector, /
    ) -> ish.ParameterVector:
        self.differences_taken += 1
        up, down = (self.gradient(parameters + sign * self.step * vector) for sign in (1, -1))
        return (up - down) / (2 * self.step)

    @contextmanager
    def other_step(self, factor: float, /) -> Iterator[None]:
        usual, self.step = self.step, factor * self.step
        try:
            yield
        finally:
            self.step = usual


def test_stated_error_holds_that_of_the_differences() -> None:
    estimate = ish.hessian_trace(ByDifferences(), probes=8)
    wrong = abs(estimate.value - TRACE)
    assert estimate.standard_error is not None
    assert 0 < wrong <= estimate.standard_error <= 4 * wrong, f"{wrong} wrong, {estimate.standard_error} stated"
    assert "steps that are twice as long change the value by" in estimate.notes[-1]


def test_error_of_an_eigenvalue_is_in_its_relative_gap() -> None:
    oracle = ByDifferences()
    estimate = ish.hessian_spectral_norm(oracle)
    assert estimate.standard_error is None
    assert estimate.relative_gap is not None
    assert abs(estimate.value - 30) <= estimate.relative_gap * 30 <= 1, f"{estimate.value} with {estimate.relative_gap}"


def test_metric_without_second_derivatives_is_measured_once() -> None:
    oracle = ByDifferences()
    estimate = ish.keskar_sharpness(oracle)
    assert oracle.differences_taken == 0
    assert not any("differences" in note for note in estimate.notes)


def of_four_draws(oracle: ish.CurvatureOracle) -> ish.Estimate:
    return ish.hutchinson_trace(oracle, num_matvecs=4)


def test_every_product_is_taken_twice_and_no_more() -> None:
    """Also by a configured metric, which is a metric inside a metric."""
    alone, measured, configured, plain = (ByDifferences() for _ in range(4))
    of_four_draws(alone)
    ish.measure(measured, of_four_draws)
    ish.hessian_spectral_norm(plain, tolerance=1e-3)
    ish.hessian_spectral_norm.with_options(tolerance=1e-3)(configured)
    assert measured.differences_taken == 2 * alone.differences_taken == 8
    assert configured.differences_taken == plain.differences_taken


def test_shared_diagonal_is_computed_anew_for_the_other_steps() -> None:
    oracle = ByDifferences()
    shared = ish.measure(oracle, "hessian_trace", probes=8)
    assert shared["hessian_trace"].standard_error == ish.hessian_trace(ByDifferences(), probes=8).standard_error


def test_checkpoint_keeps_nothing_of_the_other_steps(tmp_path: Path) -> None:
    oracle = ByDifferences()
    for _ in range(2):
        with ish.checkpoint(tmp_path, oracle):
            estimate = ish.measure(oracle, of_four_draws)["hutchinson_trace"]
    expected = ish.measure(ByDifferences(), of_four_draws)["hutchinson_trace"]
    assert estimate.value == expected.value
    assert estimate.standard_error == pytest.approx(expected.standard_error, rel=1e-12)
