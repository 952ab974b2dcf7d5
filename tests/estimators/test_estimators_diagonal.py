"""XDiag against its definition, vector by vector, and the errors of what is summed from it."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from invariant_sharpness import HessianDiagonal
from invariant_sharpness.estimators.diagonal_results import Tangent, cross_fitted
from invariant_sharpness.estimators.leave_one_out_diagonal import xdiag
from zoo.estimator_problems import SPECTRA, QuadraticOracle, of_rank, orthonormal, signs, with_spectrum

VECTORS = 5


def values(diagonal: HessianDiagonal) -> Any:
    return np.concatenate([np.ravel(group.values) for group in diagonal.groups.values()])


def parts(diagonal: HessianDiagonal) -> Any:
    return np.concatenate([np.reshape(group.parts, (VECTORS, -1)) for group in diagonal.groups.values()], axis=1)


def estimate_without(hessian: Any, vectors: Any, own: int, left_out: set[int]) -> Any:
    """The estimate from one vector with a sketch that really leaves some out: its definition, section 2.4."""
    Q = orthonormal(hessian @ np.delete(vectors, list(left_out), axis=1))
    inside = Q @ (Q.T @ hessian)
    return np.diag(inside) + vectors[:, own] * ((hessian - inside) @ vectors[:, own])


def left_out(spectrum: str) -> tuple[HessianDiagonal, Any, Any]:
    """XDiag, and by brute force the estimates that leave out one vector and, as [i, j], two."""
    A = with_spectrum(spectrum)
    oracle = QuadraticOracle(A)
    U = signs(oracle, VECTORS, seed=2)
    one = np.array([estimate_without(A, U, i, {i}) for i in range(VECTORS)])
    two = np.array([[estimate_without(A, U, i, {i, j}) for j in range(VECTORS)] for i in range(VECTORS)])
    return xdiag(oracle, num_matvecs=2 * VECTORS, seed=2), one, two


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_diagonal_is_the_mean_over_really_leaving_one_out(spectrum: str) -> None:
    diagonal, one, _ = left_out(spectrum)
    worst = np.abs(values(diagonal) - one.mean(axis=0)).max()
    assert worst <= 1e-12, f"an entry is off by {worst:.1e}"


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_parts_scatter_as_the_means_without_a_vector(spectrum: str) -> None:
    diagonal, _, two = left_out(spectrum)
    without = np.array([np.mean([two[i, j] for i in range(VECTORS) if i != j], axis=0) for j in range(VECTORS)])
    jackknife = without.mean(axis=0) - without
    found = parts(diagonal) - values(diagonal)
    factor = np.linalg.norm(found) / np.linalg.norm(jackknife)
    worst = np.abs(found - factor * jackknife).max()
    assert worst <= 1e-10, f"deviations of the parts are not {factor:.3g} times those of the jackknife: {worst:.1e}"


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_variances_add_up_to_their_unbiased_estimate(spectrum: str) -> None:
    diagonal, one, two = left_out(spectrum)
    covariance = np.mean([(one[i] - two[i, j]) @ (one[j] - two[j, i]) for i, j in permutations(range(VECTORS), 2)])
    expected = one.var(axis=0, ddof=1).sum() / VECTORS + max(covariance, 0)
    found = parts(diagonal).var(axis=0, ddof=1).sum() / VECTORS
    assert found == pytest.approx(expected, rel=1e-9), f"variances add up to {found} instead of {expected}"


@pytest.mark.parametrize("rank", [0, 1, 4, 9])
def test_diagonal_is_exact_with_no_error_if_the_rank_is_small(rank: int) -> None:
    A = of_rank(rank) if rank else np.zeros((60, 60))
    diagonal = xdiag(QuadraticOracle(A), num_matvecs=3 * rank + 6)
    worst = np.abs(values(diagonal) - np.diag(A)).max()
    assert worst <= 1e-12, f"an entry is off by {worst:.1e}"
    error = diagonal.standard_error({name: np.ones_like(array) for name, array in diagonal.arrays.items()})
    assert error is not None
    assert error <= 1e-11, f"standard error {error:.1e} of the trace"


def test_groups_have_the_shapes_and_the_order_of_the_parameters() -> None:
    oracle = QuadraticOracle(with_spectrum("flat"))
    diagonal = xdiag(oracle, num_matvecs=12)
    found = {name: (group.values.shape, np.shape(group.parts)) for name, group in diagonal.groups.items()}
    expected = {group.name: (group.shape, (6, *group.shape)) for group in oracle.groups}
    assert list(found.items()) == list(expected.items())


def test_equal_seeds_give_equal_numbers_and_different_ones_do_not() -> None:
    oracle = QuadraticOracle(with_spectrum("flat"))
    first, again, other = (values(xdiag(oracle, num_matvecs=12, seed=seed)) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_xdiag_is_not_cross_fitted() -> None:
    diagonal = xdiag(QuadraticOracle(with_spectrum("polynomial")), num_matvecs=12)
    with pytest.raises(ValueError, match=r"diagonal of matrix is by XDiag.*take a diagonal from hessian_diagonal"):
        cross_fitted(lambda h: Tangent(0.0, h), diagonal, frozenset({"matrix"}))


def test_xdiag_says_its_name() -> None:
    diagonal = xdiag(QuadraticOracle(with_spectrum("polynomial")), num_matvecs=12)
    assert diagonal.method(frozenset({"matrix", "vector"})) == "XDiag of 12 products"
