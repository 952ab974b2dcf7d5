"""The ends of the spectrum against dense eigenvalues: multiplicities, low rank, restarts, and what was not reached."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.estimators.lanczos import eigenpairs, largest_magnitude_eigenvalue
from zoo.estimator_problems import SPECTRA, QuadraticOracle, digits_hessian, digits_oracle, symmetric, with_spectrum
from zoo.vectors import flat

every_spectrum = pytest.mark.parametrize("spectrum", SPECTRA)


def found_values(pairs: Any) -> Any:
    return np.array([pair.value for pair in pairs])


def check_ends(eigenvalues: Any, largest: int, smallest: int, **options: Any) -> None:
    """That the ends are found with their vectors, each as often as it occurs."""
    A = symmetric(np.asarray(eigenvalues, dtype=float))
    oracle = QuadraticOracle(A)
    found = eigenpairs(oracle, largest=largest, smallest=smallest, **options)
    expected = np.sort(eigenvalues)
    scale = max(np.abs(expected).max(), 1e-300)
    error = max(
        np.abs(found_values(found.largest) - expected[::-1][:largest]).max(initial=0),
        np.abs(found_values(found.smallest) - expected[:smallest]).max(initial=0),
    )
    assert found.converged, str(found)
    assert error <= 1e-6 * scale, f"{found} instead of {expected[::-1][:largest]} and {expected[:smallest]}"
    V = np.stack([flat(pair.vector) for pair in (*found.largest, *found.smallest)], axis=1)
    assert np.abs(V.T @ V - np.eye(largest + smallest)).max() <= 1e-10, "the vectors are not orthonormal"
    pairs = (*found.largest, *found.smallest)
    residuals = [float(np.linalg.norm(A @ flat(p.vector) - p.value * flat(p.vector))) for p in pairs]
    worst = max(abs(residual - pair.residual) for residual, pair in zip(residuals, pairs, strict=True))
    assert worst <= 1e-10 * scale, f"residuals {residuals}, but reported as {[p.residual for p in pairs]}"


@every_spectrum
@pytest.mark.parametrize(("largest", "smallest"), [(1, 0), (0, 1), (3, 2)])
def test_ends_of_the_spectrum_are_those_of_the_dense_matrix(spectrum: str, largest: int, smallest: int) -> None:
    check_ends(SPECTRA[spectrum](np.arange(60)), largest, smallest)


@pytest.mark.parametrize("multiplicity", [2, 3])
def test_multiple_eigenvalues_are_found_as_often_as_they_occur(multiplicity: int) -> None:
    check_ends([5.0] * multiplicity + [2.0, 1.0] + [0.5] * 40 + [-3.0] * multiplicity, 4, 3)


@pytest.mark.parametrize("rank", [0, 1, 4])
def test_low_rank_leaves_zeros(rank: int) -> None:
    check_ends(np.r_[np.arange(1.0, rank + 1), np.zeros(30)], 6, 2)


def test_identity_has_as_many_eigenvectors_as_are_asked_for() -> None:
    check_ends(np.ones(20), 5, 4)


@pytest.mark.parametrize("size", [6, 7])
def test_all_eigenvalues_can_be_asked_for(size: int) -> None:
    check_ends(np.arange(1.0, size + 1) ** 2, size - 2, 2)


def test_ends_of_a_network_are_found() -> None:
    expected = np.linalg.eigvalsh(digits_hessian())
    found = eigenpairs(digits_oracle(), largest=4, smallest=2)
    error = np.abs(found_values(found.largest) - expected[::-1][:4]).max()
    error = max(error, np.abs(found_values(found.smallest) - expected[:2]).max())
    assert error <= 1e-8, f"{found}, but the eigenvalues are {expected[:2]} and {expected[-4:]}"


def test_little_memory_means_restarts_and_the_same_eigenvalues() -> None:
    eigenvalues = SPECTRA["flat"](np.arange(60))
    with ish.memory_limit(480 * 32):
        check_ends(eigenvalues, 2, 2, num_matvecs=2000)
    oracle = QuadraticOracle(symmetric(eigenvalues))
    with ish.memory_limit(480 * 20):
        extreme = largest_magnitude_eigenvalue(oracle, tolerance=1e-8, max_iterations=500, seed=0)
    assert extreme.converged, str(extreme)
    assert extreme.value == pytest.approx(eigenvalues.max(), rel=1e-8)


def test_pairs_that_are_cut_short_say_so() -> None:
    found = eigenpairs(QuadraticOracle(with_spectrum("flat")), largest=2, smallest=0, num_matvecs=6)
    assert not found.converged
    assert "NOT CONVERGED" in str(found)
    assert found.products == 6, str(found)


def test_no_more_products_than_were_asked_for_are_taken() -> None:
    oracle = QuadraticOracle(with_spectrum("flat"))
    found = eigenpairs(oracle, largest=3, smallest=1, num_matvecs=20)
    assert found.products == oracle.multiplied == 18, f"{found.products} reported, {oracle.multiplied} taken"


@pytest.mark.parametrize(("largest", "smallest", "products"), [(0, 0, 9), (-1, 2, 9), (5, 4, 99), (3, 2, 5)])
def test_impossible_numbers_of_pairs_are_refused(largest: int, smallest: int, products: int) -> None:
    with pytest.raises(ValueError, match=f"largest={largest} and smallest={smallest} of 8 eigenvalues"):
        eigenpairs(QuadraticOracle(np.eye(8)), largest=largest, smallest=smallest, num_matvecs=products)


def test_pairs_become_plain_numbers() -> None:
    found = eigenpairs(QuadraticOracle(with_spectrum("flat")), largest=2, smallest=1)
    plain = json.loads(json.dumps(found.to_dict()))
    assert [pair["value"] for pair in plain["largest"]] == [pair.value for pair in found.largest]
    assert "\n" not in str(found)
