"""The value of the solver of (17) against SciPy, closed forms and instances of known infimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invariant_sharpness.solvers.rows_columns import solve
from zoo.solver_problems import (
    assert_certified,
    assert_infimum,
    cycle,
    known_infimum,
    objective,
    random_matrices,
    scipy_minimum,
)

Array = Any


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=pytest.mark.slow) if part != 3 else part for part in range(6)]
)
def test_no_optimizer_finds_less(part: int) -> None:
    rng = np.random.default_rng(part)
    for trial in range(50):
        a, b = random_matrices(rng, rng.choice([1, 4, 12]), density=0.6 if trial % 3 == 0 else 1.0)
        if not (a.any() or b.any()):
            continue
        solution = solve(a, b)
        assert_certified(solution, 1e-12, f"trial {trial}")
        best = scipy_minimum(a, b, rng.normal(size=sum(a.shape)))
        assert solution.value <= best * (1 + 1e-9), f"SciPy finds {best}, less than {solution}, for a={a}, b={b}"
        assert solution.lower_bound <= best * (1 + 1e-13), f"SciPy finds {best}, below the bound of {solution}"


@pytest.mark.parametrize("decades", [0, 2])
def test_scipy_finds_the_same_minimum(decades: int) -> None:
    rng = np.random.default_rng(10 + decades)
    for trial in range(20):
        a, b = random_matrices(rng, decades)
        solution, best = solve(a, b), scipy_minimum(a, b, np.zeros(sum(a.shape)))
        difference = abs(solution.value - best) / best
        assert difference <= 1e-9, f"trial {trial}: {solution.value}, but SciPy finds {best}, off by {difference:.1e}"


@pytest.mark.parametrize("spread", [1, 10, 20, 170])
@pytest.mark.parametrize("weakest", [-3, -9, -15, -25])
def test_value_and_bound_enclose_a_known_infimum_of_weakly_tied_blocks(weakest: int, spread: int) -> None:
    rng = np.random.default_rng(-weakest + spread)
    for _ in range(8):
        a, b, infimum = known_infimum(rng, int(rng.integers(2, 6)), weakest, spread)
        assert_infimum(solve(a, b), infimum, f"clusters tied by 1e{weakest}")


@pytest.mark.parametrize("decades", [3, 12, 24])
@pytest.mark.parametrize("size", [10, 60])
def test_a_tree_of_cells_costs_what_its_cells_cost_alone(size: int, decades: int) -> None:
    rng = np.random.default_rng(size + decades)
    a, b = 10 ** rng.uniform(-decades, decades, (2, size, size)) * (np.eye(size) + np.eye(size, k=1))
    assert_infimum(solve(a, b), float(2 * np.sqrt(a * b).sum()), f"a chain of {size} rows")


@pytest.mark.parametrize("decades", [3, 12, 24, 60])
@pytest.mark.parametrize("size", [2, 10, 60])
def test_a_cycle_of_one_sided_cells_costs_their_geometric_mean(size: int, decades: int) -> None:
    a, b, infimum = cycle(np.random.default_rng(size + decades), size, decades)
    assert_infimum(solve(a, b), infimum, f"a cycle of {size} rows")


@pytest.mark.parametrize("decades", [-12.0, 0.0, 24.0])
def test_one_cell_costs_2_sqrt_ab(decades: float) -> None:
    a, b = np.array([[3.0 * 10**decades]]), np.array([[0.7]])
    solution = solve(a, b)
    assert_infimum(solution, 2 * np.sqrt(a * b).item(), "one cell", 1e-14)
    assert solution.attained, "the minimum over one cell with a, b > 0 is attained"
    sigma = np.exp(solution.rows + solution.columns).item()
    assert abs(sigma / np.sqrt(b / a).item() - 1) < 1e-12, f"sigma^2 = {sigma}, not sqrt(b / a)"


def test_curvatures_and_weights_of_rank_one_have_a_closed_form() -> None:
    rng = np.random.default_rng(0)
    (p, q), (r, s) = rng.exponential(size=(2, 5)), rng.exponential(size=(2, 7))
    solution = solve(np.outer(p, r), np.outer(q, s))
    assert_infimum(solution, float(2 * np.sqrt(p * q).sum() * np.sqrt(r * s).sum()), "rank one")
    z, expected = solution.rows[:, None] + solution.columns, 0.5 * np.log(np.outer(q / p, s / r))
    assert np.allclose(z, expected, rtol=0, atol=1e-6), f"ln sigma^2 is off by {np.abs(z - expected).max():.1e}"


@given(seed=st.integers(0, 2**32), decades=st.floats(0, 12), density=st.sampled_from([0.3, 0.7, 1.0]))
def test_lower_bound_lies_below_the_objective_everywhere(seed: int, decades: float, density: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_matrices(rng, decades, density=density)
    solution = solve(a, b)
    points = [(solution.rows, solution.columns), (rng.normal(size=len(a)), rng.normal(size=a.shape[1]))]
    points += [(x + 0.1 * rng.normal(size=x.shape), y + 0.1 * rng.normal(size=y.shape)) for x, y in points[:1]]
    for x, y in points:
        cost = objective(a, b, x, y)
        assert solution.lower_bound <= cost * (1 + 1e-13), (
            f"{cost} at x={x}, y={y} is less than the bound of {solution}"
        )


@given(seed=st.integers(0, 2**32), decades=st.floats(0, 12))
def test_value_lies_between_those_of_one_scale_per_cell_and_one_for_all(seed: int, decades: float) -> None:
    a, b = random_matrices(np.random.default_rng(seed), decades)
    solution = solve(a, b)
    least, most = 2 * np.sqrt(a * b).sum(), 2 * np.sqrt(a.sum() * b.sum())
    assert least * (1 - 1e-13) <= solution.value <= most * (1 + 1e-11), f"{solution.value} not in [{least}, {most}]"


@given(seed=st.integers(0, 2**32), density=st.sampled_from([0.5, 1.0]))
def test_the_value_is_that_of_the_objective_at_the_solution(seed: int, density: float) -> None:
    a, b = random_matrices(np.random.default_rng(seed), 6, density=density)
    solution = solve(a, b)
    z = np.where(solution.within_components, solution.rows[:, None] + solution.columns, 0)
    cost = float(((a * np.exp(z) + b * np.exp(-z)) * solution.within_components).sum())
    assert abs(cost - solution.value) <= 1e-12 * max(cost, 1e-300), f"{cost} at the solution, not {solution.value}"
