"""The solver with a matrix of scales within each head: SciPy, closed forms, known infima, and the bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invariant_sharpness.solvers.heads import HeadSolution, solve_heads
from invariant_sharpness.solvers.rows_columns import solve
from zoo.head_problems import curvatures, objective, random_problem, scipy_minimum
from zoo.vectors import assert_close

SHAPES = [(1, 5, 3), (2, 4, 2), (3, 6, 2), (1, 2, 4), (2, 1, 3)]


def assert_infimum(solution: HeadSolution, expected: float, what: str, tolerance: float = 1e-10) -> None:
    assert_close(solution.value, expected, what, tolerance)
    assert solution.gap <= 1e-12, f"{what}: the gap of {solution} is {solution.gap:.1e}"


@pytest.mark.parametrize("rank", [1, 2, 9])
@pytest.mark.parametrize("shape", SHAPES)
def test_scipy_finds_the_same_minimum(shape: Any, rank: int) -> None:
    H, w = random_problem(np.random.default_rng(sum(shape) + rank), shape, rank=rank)
    solution, best = solve_heads(H, w), scipy_minimum(H, w)
    assert_infimum(solution, best, f"shape {shape}, rank {rank}", 1e-7 if not solution.attained else 1e-9)


def test_one_row_has_a_closed_form() -> None:
    """``2 sqrt(w^T H w)``: the matrix of scales needs no more than the direction of the weights."""
    H, w = random_problem(np.random.default_rng(0), (1, 1, 4))
    assert_infimum(solve_heads(H, w), float(2 * np.sqrt(w[0, 0] @ H[0, 0] @ w[0, 0])), "one row")


def test_commuting_curvatures_and_orthogonal_weights_are_17() -> None:
    """Diagonal curvatures, and rows that come in pairs of opposite signs: the best matrix is diagonal."""
    rng = np.random.default_rng(1)
    a, w = rng.exponential(size=(4, 3)), rng.normal(size=(4, 3))
    signs = np.array([[1, 1, 1], [1, -1, 1], [1, 1, -1], [1, -1, -1]])
    H = np.repeat(a[:, :, None] * np.eye(3), 4, axis=0)[None]
    pairs = (w[:, None] * signs).reshape(1, 16, 3)
    assert_infimum(solve_heads(H, pairs), 4 * solve(a, w**2).value, "(17)")


def test_heads_of_width_one_are_17() -> None:
    rng = np.random.default_rng(2)
    H, w = random_problem(rng, (6, 7, 1), decades=3)
    assert_infimum(solve_heads(H, w), solve(H[:, :, 0, 0], w[:, :, 0] ** 2).value, "(17)", 2e-12)


@pytest.mark.parametrize("rank", [2, 9])
@pytest.mark.parametrize("decades", [0, 6])
def test_another_basis_of_each_head_and_another_scale_of_each_row_change_nothing(decades: int, rank: int) -> None:
    rng = np.random.default_rng(3)
    H, w = random_problem(rng, (2, 8, 4), rank=rank)
    C, r = rng.normal(size=(2, 4, 4)), 10 ** rng.uniform(-decades, decades, 8)[:, None]
    inverse = np.linalg.inv(C)
    moved = (
        np.einsum("alk,ailm,amn->aikn", inverse, H, inverse) / r[:, :, None] ** 2,
        np.einsum("akl,ail->aik", C, w) * r,
    )
    assert_close(solve_heads(*moved).value, solve_heads(H, w).value, "the value in another basis", 1e-11)


@given(seed=st.integers(0, 2**32), decades=st.floats(0, 4), rank=st.integers(1, 5))
def test_lower_bound_lies_below_the_objective_everywhere(seed: int, decades: float, rank: int) -> None:
    rng = np.random.default_rng(seed)
    H, w = random_problem(rng, (2, 4, 3), rank=rank, decades=decades)
    solution = solve_heads(H, w)
    assert solution.gap <= 1e-12, f"{solution}: gap {solution.gap:.1e}"
    for _ in range(5):
        root = rng.normal(size=(2, 3, 3)) * 10 ** rng.uniform(-decades, decades, (2, 1, 1))
        B = np.einsum("akl,aml->akm", root, root)
        A = np.exp(rng.normal(size=4))
        A *= np.sqrt(np.einsum("aik,akl,ail->i", w, np.linalg.inv(B), w) / np.einsum("aikl,akl->i", H, B))
        cost = objective(H, w, np.sqrt(A), B)
        assert solution.lower_bound <= cost * (1 + 1e-13), f"{cost} is less than the bound of {solution}"


@pytest.mark.parametrize("tie", [1e-1, 1e-3, 1e-5])
def test_weakly_tied_rows_are_solved_to_the_same_gap(tie: float) -> None:
    """Two problems that share no units but for a small part of their weights and curvatures."""
    rng = np.random.default_rng(4)
    H, w = random_problem(rng, (1, 10, 4))
    pattern = np.full((10, 4), tie)
    pattern[:5, :2] = pattern[5:, 2:] = 1
    H, w = H * pattern[:, :, None] * pattern[:, None, :], w * pattern
    H[:, :5] *= 9
    solution = solve_heads(H, w)
    assert solution.gap <= 1e-12, f"{solution}: gap {solution.gap:.1e}"
    assert solution.value <= scipy_minimum(H, w) * (1 + 1e-10), f"SciPy finds less than {solution}"


def test_problems_that_share_nothing_add_up() -> None:
    rng = np.random.default_rng(5)
    (H1, w1), (H2, w2) = (random_problem(rng, (1, 5, 2)) for _ in range(2))
    H, w = np.zeros((1, 10, 4, 4)), np.zeros((1, 10, 4))
    H[0, :5, :2, :2], H[0, 5:, 2:, 2:], w[0, :5, :2], w[0, 5:, 2:] = H1, H2, w1, w2
    solution = solve_heads(H, w)
    assert_infimum(solution, solve_heads(H1, w1).value + solve_heads(H2, w2).value, "the sum")
    assert solution.attained, str(solution)


@pytest.mark.parametrize("one_sided", ["curvature", "weights"])
def test_what_ties_two_problems_in_one_direction_costs_nothing(one_sided: str) -> None:
    """The first rows have curvature, or weights, in the units of the second, but not the other way round."""
    rng = np.random.default_rng(6)
    roots, w = np.zeros((1, 10, 9, 4)), np.zeros((1, 10, 4))
    roots[:, :5, :, :2], roots[:, 5:, :, 2:] = rng.normal(size=(2, 1, 5, 9, 2))
    w[:, :5, :2], w[:, 5:, 2:] = rng.normal(size=(2, 1, 5, 2))
    alone = (
        solve_heads(curvatures(roots[:, :5, :, :2]), w[:, :5, :2]),
        solve_heads(curvatures(roots[:, 5:, :, 2:]), w[:, 5:, 2:]),
    )
    if one_sided == "curvature":
        roots[:, :5, :, 2:] = rng.normal(size=(1, 5, 9, 2))
    else:
        w[:, :5, 2:] = rng.normal(size=(1, 5, 2))
    solution = solve_heads(curvatures(roots), w)
    assert_infimum(solution, alone[0].value + alone[1].value, "the sum")
    assert not solution.attained, str(solution)
    assert solution.value <= scipy_minimum(curvatures(roots), w), f"SciPy finds less than {solution}"


@pytest.mark.parametrize("dead", ["curvature", "weights", "both"])
def test_dead_rows_cost_nothing(dead: str) -> None:
    H, w = random_problem(np.random.default_rng(7), (2, 6, 3))
    expected = solve_heads(H[:, :4], w[:, :4]).value
    if dead in ("curvature", "both"):
        H[:, 4:] = 0
    if dead in ("weights", "both"):
        w[:, 4:] = 0
    solution = solve_heads(H, w)
    assert_infimum(solution, expected, "the value of the others")
    assert solution.attained == (dead == "both"), str(solution)


def test_dead_head_costs_nothing() -> None:
    H, w = random_problem(np.random.default_rng(8), (2, 6, 3))
    H[1] = 0
    assert_infimum(solve_heads(H, w), solve_heads(H[:1], w[:1]).value, "the value of the other head")


@pytest.mark.parametrize("singular", ["weights", "curvature"])
def test_units_beyond_the_span_of_the_weights_or_of_the_curvature_cost_nothing(singular: str) -> None:
    """In a random basis, four of six dimensions count."""
    rng = np.random.default_rng(9)
    roots, w, C = rng.normal(size=(1, 7, 9, 6)), rng.normal(size=(1, 7, 6)), rng.normal(size=(6, 6))
    expected = solve_heads(curvatures(roots[..., :4]), w[..., :4]).value
    if singular == "weights":
        w[..., 4:] = 0
    else:
        roots[..., 4:] = 0
    solution = solve_heads(curvatures(roots @ np.linalg.inv(C)), w @ C.T)
    assert_infimum(solution, expected, "the value within the span")
    assert not solution.attained, str(solution)


def test_nothing_costs_nothing() -> None:
    solution = solve_heads(np.zeros((2, 3, 2, 2)), np.zeros((2, 3, 2)))
    assert (solution.value, solution.lower_bound, solution.attained) == (0, 0, True), str(solution)


def test_negative_curvature_is_refused() -> None:
    H, w = random_problem(np.random.default_rng(10), (1, 3, 2))
    H[0, 1, 0, 0] = -1
    with pytest.raises(ValueError, match="a loss that is not convex in the outputs"):
        solve_heads(H, w)


@pytest.mark.parametrize("wrong", ["shape", "number"])
def test_wrong_input_is_refused(wrong: str) -> None:
    H, w = random_problem(np.random.default_rng(11), (1, 3, 2))
    if wrong == "number":
        w[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="have to be finite" if wrong == "number" else "have shape"):
        solve_heads(H, w if wrong == "number" else w[0])
