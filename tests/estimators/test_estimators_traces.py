"""Trace estimators against dense matrices: exact where the rank allows it, and otherwise what their papers define."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.estimators.hutchinson import hutch_plus_plus_trace, hutchinson_trace
from invariant_sharpness.estimators.leave_one_out_diagonal import xdiag
from invariant_sharpness.estimators.leave_one_out_trace import xtrace
from zoo.estimator_problems import (
    SPECTRA,
    QuadraticOracle,
    digits_oracle,
    of_rank,
    orthonormal,
    signs,
    with_spectrum,
)

Estimator = Callable[..., ish.Estimate]
ALL: list[Estimator] = [hutchinson_trace, hutch_plus_plus_trace, xtrace]
SKETCHING: list[Estimator] = [hutch_plus_plus_trace, xtrace]
every_spectrum = pytest.mark.parametrize("spectrum", SPECTRA)


def close(value: float, expected: float, what: str, size: float = 1.0, tolerance: float = 1e-10) -> None:
    error = abs(value - expected) / size
    assert error <= tolerance, f"{what}: {value!r} instead of {expected!r}, an error of {error:.1e}"


# --- definitions ----------------------------------------------------------------------------------


@every_spectrum
def test_hutchinson_is_the_mean_of_quadratic_forms(spectrum: str) -> None:
    A = with_spectrum(spectrum)
    oracle = QuadraticOracle(A)
    U = signs(oracle, 12, seed=3)
    forms = np.sum(U * (A @ U), axis=0)
    estimate = hutchinson_trace(oracle, num_matvecs=12, seed=3)
    close(estimate.value, forms.mean(), "value")
    close(estimate.standard_error or 0, forms.std(ddof=1) / 12**0.5, "standard error")


@every_spectrum
def test_hutch_plus_plus_takes_out_the_sketch_and_probes_the_rest(spectrum: str) -> None:
    A = with_spectrum(spectrum)
    oracle = QuadraticOracle(A)
    U = signs(oracle, 10, seed=3)
    Q = orthonormal(A @ U[:, :5])
    rest = U[:, 5:] - Q @ (Q.T @ U[:, 5:])
    draws = np.trace(Q.T @ A @ Q) + np.sum(rest * (A @ rest), axis=0)
    estimate = hutch_plus_plus_trace(oracle, num_matvecs=15, seed=3)
    close(estimate.value, draws.mean(), "value")
    close(estimate.standard_error or 0, draws.std(ddof=1) / 5**0.5, "standard error")


def estimate_without(hessian: Any, vectors: Any, own: int, left_out: set[int]) -> float:
    """XTrace's estimate from one vector with a sketch that really leaves some out: its definition, sections 2.1 and 2.3."""
    Q = orthonormal(hessian @ np.delete(vectors, list(left_out), axis=1))
    rest = vectors[:, own] - Q @ (Q.T @ vectors[:, own])
    rest *= np.sqrt((len(hessian) - Q.shape[1]) / (rest @ rest))
    return float(np.trace(Q.T @ hessian @ Q) + rest @ hessian @ rest)


@every_spectrum
def test_xtrace_is_the_mean_over_really_leaving_one_out(spectrum: str) -> None:
    A = with_spectrum(spectrum)
    oracle = QuadraticOracle(A)
    U = signs(oracle, 6, seed=4)
    expected = np.mean([estimate_without(A, U, i, {i}) for i in range(6)])
    close(xtrace(oracle, num_matvecs=12, seed=4).value, float(expected), "value")


@every_spectrum
def test_error_of_xtrace_has_the_covariance_from_really_leaving_two_out(spectrum: str) -> None:
    A = with_spectrum(spectrum)
    oracle = QuadraticOracle(A)
    U = signs(oracle, 6, seed=4)
    one = np.array([estimate_without(A, U, i, {i}) for i in range(6)])
    change = np.array([[one[i] - estimate_without(A, U, i, {i, j}) for j in range(6)] for i in range(6)])
    covariance = np.sum(change * change.T) / 30
    expected = one.var(ddof=1) / 6 + max(covariance, 0)
    error = xtrace(oracle, num_matvecs=12, seed=4).standard_error or 0
    close(error**2, float(expected), "squared standard error", size=float(expected), tolerance=1e-8)


# --- low rank -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 4, 10])
@pytest.mark.parametrize("estimator", SKETCHING)
def test_trace_is_exact_with_no_error_if_the_rank_is_at_most_a_third_of_the_products(
    estimator: Estimator, rank: int
) -> None:
    A = of_rank(rank)
    for seed in range(5):
        estimate = estimator(QuadraticOracle(A), num_matvecs=3 * rank + 3, seed=seed)
        close(estimate.value, np.trace(A), f"value of rank {rank}")
        close(estimate.standard_error or 0, 0, f"standard error at rank {rank}")


@pytest.mark.parametrize("rank", range(6, 9))
def test_trace_is_right_on_both_sides_of_the_rank_of_the_sketch(rank: int) -> None:
    """Seven vectors: with rank 6 all can be left out, with 7 each one takes a direction along, with 8 the sketch is short."""
    A = of_rank(rank)
    oracle = QuadraticOracle(A)
    U = signs(oracle, 7, seed=0)
    expected = np.mean([estimate_without(A, U, i, {i}) for i in range(7)]) if rank > 6 else np.trace(A)
    close(xtrace(oracle, num_matvecs=14).value, float(expected), f"value of rank {rank}")


@pytest.mark.parametrize("estimator", ALL)
def test_hessian_of_zeros_has_trace_zero_with_no_error(estimator: Estimator) -> None:
    estimate = estimator(QuadraticOracle(np.zeros((20, 20))), num_matvecs=12)
    assert (estimate.value, estimate.standard_error) == (0, 0), str(estimate)


@pytest.mark.parametrize("estimator", [hutchinson_trace, xtrace])
def test_multiple_of_the_identity_has_no_error(estimator: Estimator) -> None:
    estimate = estimator(QuadraticOracle(3 * np.eye(40)), num_matvecs=12)
    close(estimate.value, 120, "value")
    close(estimate.standard_error or 0, 0, "standard error")


@pytest.mark.parametrize("size", [6, 7, 9])
@pytest.mark.parametrize("estimator", SKETCHING)
def test_more_products_than_parameters_are_exact(estimator: Estimator, size: int) -> None:
    """Random signs of few entries repeat each other: the sketch has rank deficits of every kind."""
    A = np.diag(np.arange(1.0, size + 1)) + 0.3
    for seed in range(10):
        estimate = estimator(QuadraticOracle(A), num_matvecs=12 * size, seed=seed)
        close(estimate.value, np.trace(A), f"value, seed {seed}", size=float(np.trace(A)))
        close(estimate.standard_error or 0, 0, f"standard error, seed {seed}", size=float(np.trace(A)))


# --- cost and memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("products", [12, 31, 32])
@pytest.mark.parametrize("estimator", [*ALL, xdiag])
def test_no_more_products_than_were_asked_for(estimator: Any, products: int) -> None:
    oracle = QuadraticOracle(with_spectrum("flat"))
    estimator(oracle, num_matvecs=products)
    assert products - 1 <= oracle.multiplied <= products, f"{oracle.multiplied} products instead of {products}"


@pytest.mark.parametrize(("estimator", "held"), [(hutch_plus_plus_trace, 20), (xtrace, 30), (xdiag, 120)])
def test_vectors_that_do_not_fit_are_refused_before_the_first_product(estimator: Any, held: int) -> None:
    oracle = QuadraticOracle(with_spectrum("flat"))
    message = rf"holds {held} vectors of 480 bytes, and the memory limit of 4800 bytes leaves room for 9: ask for fewer"
    with ish.memory_limit(4800), pytest.raises(ValueError, match=message):
        estimator(oracle, num_matvecs=60)
    assert oracle.multiplied == 0


@pytest.mark.parametrize("estimator", [*ALL, xdiag])
def test_memory_limit_changes_no_value(estimator: Any) -> None:
    oracle = QuadraticOracle(with_spectrum("polynomial"))
    whole = estimator(oracle, num_matvecs=18)
    with ish.memory_limit(480 * 40):
        parts = estimator(oracle, num_matvecs=18)
    values = [e.arrays["vector"] if isinstance(e, ish.HessianDiagonal) else e.value for e in (whole, parts)]
    assert values[0] == pytest.approx(values[1], rel=1e-12), f"{values[0]} and {values[1]}"


@pytest.mark.parametrize(
    ("estimator", "least"), [(hutchinson_trace, 2), (hutch_plus_plus_trace, 6), (xtrace, 6), (xdiag, 6)]
)
def test_too_few_products_are_refused(estimator: Any, least: int) -> None:
    with pytest.raises(ValueError, match=rf"num_matvecs={least - 1}, but {estimator.__name__} .* at least {least}"):
        estimator(QuadraticOracle(np.eye(9)), num_matvecs=least - 1)
    estimator(QuadraticOracle(np.eye(9)), num_matvecs=least)


# --- who is better --------------------------------------------------------------------------------


def test_sketching_beats_plain_probing_on_a_network() -> None:
    oracle = digits_oracle()
    errors = [estimator(oracle, num_matvecs=30).standard_error or 0 for estimator in (hutchinson_trace, *SKETCHING)]
    assert errors[0] > 2 * errors[1] > 2 * errors[2], f"standard errors {errors} of Hutchinson, Hutch++ and XTrace"
