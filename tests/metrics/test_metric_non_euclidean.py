"""Curvature in the balls of other norms: brute force over signs and rotations, closed forms, and lower bounds that say so."""

from __future__ import annotations

from itertools import product
from math import inf
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

import invariant_sharpness as ish
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.quadratic_ascent import QuadraticForm, largest_in_ball, largest_in_box
from invariant_sharpness_numpy import quadratic
from zoo import numpy_problem
from zoo.rescaled import assert_invariant_in_balanced_coordinates
from zoo.vectors import assert_close


def random_matrix(size: int, seed: int, shift: float = 0.0) -> Any:
    A = np.random.default_rng(seed).normal(size=(size, size))
    return (A + A.T) / 2 + shift * np.eye(size)


def over_signs(H: Any) -> float:  # noqa: N803
    """Brute force."""
    points = np.array(list(product((-1.0, 1.0), repeat=len(H))))
    return float(np.einsum("ni,ij,nj->n", points, H, points).max())


@pytest.mark.parametrize(("size", "seed"), [(1, 0), (2, 1), (5, 2), (9, 3), (12, 4), (16, 5)])
def test_linf_is_the_best_of_all_signs(size: int, seed: int) -> None:
    H = random_matrix(size, seed, shift=4.0)
    assert (np.diag(H) >= 0).all()
    found = ish.non_euclidean_sharpness(quadratic(H, np.ones((1, size))))
    assert found.method == "linf, all signs"
    assert_close(found.value, over_signs(H), "maximum over signs", 1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_negative_curvature_may_lie_inside_the_box(seed: int) -> None:
    """SLSQP from 40 points of the box finds nothing higher, and its best is the value."""
    H = random_matrix(4, seed, shift=-0.7)
    found = largest_in_box(H)
    random = np.random.default_rng(seed)
    ends = [
        minimize(lambda d: -d @ H @ d, start, jac=lambda d: -2 * H @ d, bounds=[(-1, 1)] * 4, method="L-BFGS-B").fun
        for start in random.uniform(-1, 1, size=(40, 4))
    ]
    assert found == pytest.approx(max(0.0, -min(ends)), abs=1e-6)


def test_point_inside_is_better_than_all_signs() -> None:
    """1 - x^2 + x has its maximum 5/4 at x = 1/2."""
    H = np.array([[1.0, 0.5], [0.5, -1.0]])
    assert over_signs(H) == 1.0
    assert largest_in_box(H) == pytest.approx(1.25, rel=1e-12)


def test_too_many_faces_are_not_looked_at() -> None:
    assert largest_in_box(-np.eye(16)) is None
    found = ish.non_euclidean_sharpness(quadratic(-np.eye(16), np.ones((1, 16))))
    assert found.value == 0.0


@pytest.mark.parametrize("norm", ["linf", "l2", "spectral"])
def test_without_positive_curvature_it_is_zero(norm: Any) -> None:
    found = ish.non_euclidean_sharpness(quadratic(-np.diag([1.0, 2.0]), np.ones((1, 2))), norm=norm)
    assert found.value == 0.0
    assert found.converged


def test_linf_of_a_large_diagonal_is_the_sum_of_its_positive_entries() -> None:
    h = np.random.default_rng(0).normal(size=40)
    found = ish.non_euclidean_sharpness(quadratic(np.diag(h), np.ones((1, 40))), max_iterations=400)
    assert_close(found.value, h[h > 0].sum(), "sum of positive entries", 1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_search_is_a_lower_bound_that_no_single_step_raises(seed: int) -> None:
    """14 parameters, so that brute force can tell."""
    H = random_matrix(14, seed, shift=5.0)
    found = largest_in_ball(QuadraticForm(quadratic(H, np.ones((1, 14))), "linf", 100, 1e-6), starts=6, seed=0)
    assert found.value <= over_signs(H) * (1 + 1e-12), f"{found.value} is above {over_signs(H)}"
    assert found.value >= np.linalg.eigvalsh(H)[-1], "the leading eigenvector alone, within the box, has more"
    assert found.converged


def test_search_finds_the_maximum_of_one_direction() -> None:
    """(v'd)^2 is largest at the signs of v."""
    v = np.random.default_rng(0).normal(size=50)
    found = ish.non_euclidean_sharpness(quadratic(np.outer(v, v), np.ones((1, 50))))
    assert_close(found.value, np.abs(v).sum() ** 2, "squared sum of magnitudes", 1e-9)


def test_value_that_was_searched_says_that_it_is_a_lower_bound() -> None:
    found = ish.non_euclidean_sharpness(numpy_problem.problem("cross_entropy", biases=True).oracle)
    assert found.bracket == (found.value, inf)
    assert "lower bound" in str(found), f"{found}"
    assert found.method == "linf, ascents from 4 starts"


def test_l2_is_the_largest_eigenvalue() -> None:
    oracle = numpy_problem.problem("cross_entropy", biases=True).oracle
    expected = np.linalg.eigvalsh(numpy_problem.dense_hessian("cross_entropy", biases=True))[-1]
    assert_close(ish.non_euclidean_sharpness(oracle, norm="l2").value, expected, "largest eigenvalue", 1e-9)


@pytest.mark.parametrize("shape", [(1, 6), (6, 1)])
def test_spectral_ball_of_a_vector_is_euclidean(shape: tuple[int, int]) -> None:
    H = random_matrix(6, 3, shift=3.0)
    found = ish.non_euclidean_sharpness(
        quadratic(H, np.ones(shape)), norm="spectral", tolerance=1e-10, max_iterations=500
    )
    assert_close(found.value, np.linalg.eigvalsh(H)[-1], "largest eigenvalue", 1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_spectral_ball_of_two_rows_is_the_best_rotation_or_reflection(seed: int) -> None:
    """A convex function is largest at an extreme point of the ball: an orthogonal matrix."""
    H = random_matrix(4, seed, shift=4.0)
    assert np.linalg.eigvalsh(H)[0] > 0
    angles = np.linspace(0, 2 * np.pi, 20001)
    c, s = np.cos(angles), np.sin(angles)
    points = np.concatenate([np.stack([c, -s, s, c], 1), np.stack([c, s, s, -c], 1)])
    expected = np.einsum("ni,ij,nj->n", points, H, points).max()
    found = ish.non_euclidean_sharpness(
        quadratic(H, np.ones((2, 2))), norm="spectral", max_iterations=1000, tolerance=1e-12
    )
    assert_close(found.value, expected, "best orthogonal matrix", 1e-6)


@pytest.mark.parametrize("norm", ["linf", "spectral", "l2"])
def test_it_is_invariant_in_coordinates_that_move_with_the_parameters(norm: Any) -> None:
    oracle = numpy_problem.problem("cross_entropy", biases=True).oracle
    assert_invariant_in_balanced_coordinates(lambda one: ish.non_euclidean_sharpness(one, norm=norm), oracle)


def test_wrong_options_are_refused() -> None:
    oracle = quadratic(np.eye(2), np.ones((1, 2)))
    with pytest.raises(ArgumentError, match="at least one ascent"):
        ish.non_euclidean_sharpness(oracle, starts=0)
    with pytest.raises(ArgumentError, match="norm='l1' is not known"):
        ish.non_euclidean_sharpness(oracle, norm="l1")  # type: ignore[arg-type]
