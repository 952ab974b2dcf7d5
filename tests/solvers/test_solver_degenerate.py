"""Degenerate rows, columns, blocks and patterns, and input that is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from invariant_sharpness.solvers.rows_columns import solve
from zoo.solver_problems import (
    assert_infimum,
    objective,
    scipy_minimum,
)

Array = Any


def test_a_pattern_without_total_support_has_an_infimum_that_is_not_attained() -> None:
    a, b = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 1.0], [0.0, 1.0]])
    solution = solve(a, b)
    assert_infimum(solution, 4.0, "a pattern without total support")
    assert not solution.attained, "no finite scale reaches the infimum 4"
    costs = [objective(a, b, np.array([0.0, -t]), np.array([0.0, t])) for t in (0, 10, 20, 30)]
    assert all(cost > 4 for cost in costs), f"the infimum is 4, but scales reach {costs}"
    assert costs[-1] - 4 < 1e-12, f"along the path the cost falls to {costs}, not to 4"


def test_one_sided_cells_cost_nothing() -> None:
    for a, b in (([[0.0]], [[2.0]]), ([[2.0]], [[0.0]]), ([[0.0]], [[0.0]])):
        solution = solve(np.array(a), np.array(b))
        assert solution.value == solution.lower_bound == 0, f"a={a}, b={b} costs {solution.value}"
        assert solution.attained == (a == b), f"a={a}, b={b}: attained is {solution.attained}"


def test_one_sided_cells_within_a_block_are_paid_for() -> None:
    a, b = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 1.0], [1.0, 1.0]])
    solution = solve(a, b)
    assert solution.attained, "all cells are tied by cells of both kinds"
    best = scipy_minimum(a, b, np.zeros(4))
    assert abs(solution.value / best - 1) < 1e-9, f"{solution.value}, but SciPy finds {best}"
    assert solution.value > 6, f"{solution.value} is not more than the two-sided cells cost alone"


def test_zero_rows_and_columns_change_nothing() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.exponential(size=(2, 4, 5))
    alone = solve(a, b)
    for kind in ("a and b", "a", "b"):
        wide_a, wide_b = rng.exponential(size=(2, 6, 8))
        if kind in ("a and b", "a"):
            wide_a[4:], wide_a[:, 5:] = 0, 0
        if kind in ("a and b", "b"):
            wide_b[4:], wide_b[:, 5:] = 0, 0
        wide_a[:4, :5], wide_b[:4, :5] = a, b
        solution = solve(wide_a, wide_b)
        error = abs(solution.value / alone.value - 1)
        assert error <= 2e-12, f"rows and columns without {kind} change the value by {error:.1e}"
        assert solution.attained == (kind == "a and b"), f"{kind} zero: attained is {solution.attained}"
        assert solution.within_components.sum() == 20, (
            f"{kind} zero: {solution.within_components} should be a 4 x 5 block"
        )


def test_separate_blocks_add_up() -> None:
    rng = np.random.default_rng(2)
    parts = [rng.exponential(size=(2, rows, columns)) for rows, columns in ((2, 3), (4, 1), (3, 3))]
    a, b = np.zeros((2, 9, 7))
    row = column = 0
    for part in parts:
        cells = np.s_[row : row + part.shape[1], column : column + part.shape[2]]
        a[cells], b[cells] = part
        row, column = row + part.shape[1], column + part.shape[2]
    expected = sum(solve(*part).value for part in parts)
    assert_infimum(solve(a, b), expected, "three blocks", 4e-12)


def test_a_matrix_of_zeros_costs_nothing() -> None:
    solution = solve(np.zeros((3, 4)), np.zeros((3, 4)))
    assert (solution.value, solution.lower_bound, solution.gap) == (0, 0, 0), f"{solution}"


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", ["a", "b"])
def test_negative_and_infinite_entries_are_refused(name: str, bad: float) -> None:
    matrices = {"a": np.ones((2, 3)), "b": np.ones((2, 3))}
    matrices[name][1, 2] = bad
    with pytest.raises(ValueError, match=rf"^{name} has entries that are negative or not finite: clip"):
        solve(**matrices)


@pytest.mark.parametrize(("a", "b"), [((2, 3), (3, 2)), ((2,), (2,)), ((2, 3, 1), (2, 3, 1))])
def test_other_shapes_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a has shape \(2,.*both are matrices of the same shape"):
        solve(np.ones(a), np.ones(b))
