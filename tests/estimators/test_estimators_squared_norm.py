"""The Frobenius norm: exact on a Krylov space, unbiased outside of it, with an error that is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import prng
from zoo.estimator_problems import (
    SPECTRA,
    QuadraticOracle,
    digits_hessian,
    digits_oracle,
    of_rank,
    orthonormal,
    signs,
    symmetric,
    with_spectrum,
)
from zoo.vectors import flat

every_spectrum = pytest.mark.parametrize("spectrum", SPECTRA)


def frobenius_norm(hessian: Any, **options: Any) -> ish.Estimate:
    return ish.hessian_frobenius_norm(QuadraticOracle(hessian), **options)


def krylov_basis(hessian: Any, blocks: int, seed: int) -> Any:
    """Of four uniform directions and their products with powers of the Hessian."""
    oracle = QuadraticOracle(hessian)
    basis = np.stack([flat(prng.uniform(oracle, seed, index)) for index in range(4)], axis=1)
    basis = orthonormal(basis)
    for _ in range(blocks - 1):
        basis = orthonormal(np.hstack([basis, hessian @ basis]))
    return basis


@every_spectrum
def test_norm_is_exact_inside_of_the_space_and_probed_outside(spectrum: str) -> None:
    A = with_spectrum(spectrum)
    Q, U = krylov_basis(A, blocks=2, seed=3), signs(QuadraticOracle(A), 20, seed=3)[:, 8:]
    P = np.eye(len(A)) - Q @ Q.T
    inside = np.sum(A**2) - np.sum((P @ A @ P) ** 2)
    draws = inside + np.sum((P @ A @ P @ U) ** 2, axis=0)
    estimate = frobenius_norm(A, probes=20, seed=3)
    error = draws.std(ddof=1) / 12**0.5 / 2 / draws.mean() ** 0.5
    assert estimate.value == pytest.approx(draws.mean() ** 0.5, rel=1e-10), str(estimate)
    assert estimate.standard_error == pytest.approx(error, rel=1e-8), f"{estimate}, but the error is {error}"
    assert estimate.method == "8 Krylov directions, 12 probes"


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_norm_is_exact_if_the_rank_is_at_most_that_of_the_space(rank: int) -> None:
    A = of_rank(rank)
    estimate = frobenius_norm(A, probes=24)
    assert estimate.value == pytest.approx(np.linalg.norm(A), rel=1e-10), str(estimate)
    assert (estimate.standard_error or 0) <= 1e-10 * estimate.value, str(estimate)


@pytest.mark.parametrize("factor", [0.0, 1.0, -2.0])
def test_norm_of_a_multiple_of_the_identity_is_that_number_of_its_ones(factor: float) -> None:
    values = [frobenius_norm(factor * np.eye(60), probes=16, seed=seed) for seed in range(100)]
    mean, error = np.mean([v.value**2 for v in values]), np.std([v.value**2 for v in values]) / 10
    assert abs(mean - 60 * factor**2) <= 4 * error + 1e-12, f"{mean} ± {error}, but it is {60 * factor**2}"


def test_all_products_are_used_and_no_more() -> None:
    for count in (2, 7, 8, 20, 33):
        oracle = QuadraticOracle(with_spectrum("polynomial"))
        ish.hessian_frobenius_norm(oracle, probes=count)
        assert oracle.multiplied == count, f"{oracle.multiplied} products instead of {count}"


def test_space_is_cut_to_half_of_the_memory_limit() -> None:
    oracle = QuadraticOracle(with_spectrum("polynomial"))
    with ish.memory_limit(24 * 60 * 8):
        assert ish.hessian_frobenius_norm(oracle, probes=40).method == "8 Krylov directions, 32 probes"
    with ish.memory_limit(60 * 8):
        assert ish.hessian_frobenius_norm(oracle, probes=40).method == "0 Krylov directions, 40 probes"


def test_few_large_eigenvalues_make_no_error() -> None:
    A = symmetric(np.r_[100.0, 50.0, -30.0, 1e-3 * np.ones(57)])
    estimate = frobenius_norm(A, probes=24)
    relative = abs(estimate.value - np.linalg.norm(A)) / np.linalg.norm(A)
    assert relative <= 1e-9, f"{estimate} is off by {relative:.1e}"


@pytest.mark.slow
def test_intervals_of_the_norm_cover_on_a_network() -> None:
    pytest.importorskip("sklearn")
    oracle, truth = digits_oracle(), np.linalg.norm(digits_hessian())
    estimates = [ish.hessian_frobenius_norm(oracle, probes=40, seed=seed) for seed in range(200)]
    share = np.mean([low <= truth <= high for low, high in (e.interval() for e in estimates)])
    error = float(np.sqrt(np.mean([(e.value - truth) ** 2 for e in estimates])) / truth)
    assert 0.92 <= share <= 0.98, f"the 95 % intervals hold the truth for {share:.1%} of 200 seeds"
    assert error <= 1e-3, f"the error is {error:.2%}; of signs alone it is 6 %"
