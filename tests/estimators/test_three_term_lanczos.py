"""The largest eigenvalue with four vectors in memory, against dense eigenvalues."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.estimators.lanczos import largest_magnitude_eigenvalue
from zoo.estimator_problems import QuadraticOracle, symmetric

SIZE = 200
ROOM = 8 * 8 * SIZE
"""Bytes for eight vectors."""


def spectrum(*outliers: float) -> np.ndarray:
    bulk = np.random.default_rng(0).normal(size=SIZE - len(outliers))
    return np.array([*outliers, *bulk])


CASES = {
    "bulk alone": spectrum(),
    "two ends that are almost as large": spectrum(-1000.0, 1001.0),
    "two neighbours": spectrum(500.0, 499.99),
    "many that converge before the largest": spectrum(100.0, *np.linspace(-99.99, -99.9, 20)),
    "of rank three": np.array([1.0, 2.0, -3.0, *np.zeros(SIZE - 3)]),
    "zero": np.zeros(SIZE),
}


def found_within(room: int, matrix: np.ndarray, **options: Any) -> Any:
    settings = {"tolerance": 1e-8, "max_iterations": 2000, "seed": 0} | options
    with ish.memory_limit(room):
        return largest_magnitude_eigenvalue(QuadraticOracle(matrix), **settings)


@pytest.mark.parametrize("case", CASES)
def test_largest_magnitude_is_that_of_the_dense_matrix(case: str) -> None:
    A = symmetric(CASES[case])
    found, expected = found_within(ROOM, A), np.abs(np.linalg.eigvalsh(A)).max()
    assert found.converged, f"{found}"
    assert abs(abs(found.value) - expected) <= 1e-8 * expected, f"{found} instead of {expected}"


@pytest.mark.parametrize("case", ["bulk alone", "two neighbours", "many that converge before the largest"])
def test_it_takes_no_more_products_than_a_space_that_is_kept(case: str) -> None:
    A = symmetric(CASES[case])
    few, many = found_within(ROOM, A).steps, found_within(2**30, A).steps
    assert few <= many + 2, f"{few} products with room for eight vectors, {many} with room for all"


def test_residual_is_that_of_an_eigenvalue_nearby() -> None:
    A = symmetric(CASES["bulk alone"])
    eigenvalues = np.linalg.eigvalsh(A)
    for steps in (5, 10, 20):
        found = found_within(ROOM, A, max_iterations=steps)
        distance = np.abs(eigenvalues - found.value).min()
        assert distance <= found.residual, (
            f"after {steps} steps {distance} from an eigenvalue, residual {found.residual}"
        )


def test_what_was_not_reached_is_said() -> None:
    found = found_within(ROOM, symmetric(CASES["bulk alone"]), max_iterations=3)
    assert not found.converged
    assert found.steps == 3
