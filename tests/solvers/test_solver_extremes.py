"""Large layers, extreme ranges, Newton's method, and the pieces of the certificate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from invariant_sharpness.solvers.rows_columns import solve
from invariant_sharpness.solvers.rows_columns.duality import exact_losses, quadratic_losses
from invariant_sharpness.solvers.rows_columns.newton import newton_step
from zoo.seeds import seeds
from zoo.solver_problems import (
    assert_certified,
    assert_infimum,
    cycle,
    known_infimum,
    layer,
    random_matrices,
)

Array = Any


@pytest.mark.parametrize(("rows", "columns"), [(512, 784), (784, 512)])
def test_a_large_layer_needs_a_few_sweeps_alone(rows: int, columns: int) -> None:
    a, b = layer(3, rows, columns)
    solution = solve(a, b)
    assert_certified(solution, 1e-12, f"a {rows} x {columns} layer")
    assert solution.newton_steps == 0, f"{solution.newton_steps} Newton steps where sweeps suffice"
    least, most = 2 * np.sqrt(a * b).sum(), 2 * np.sqrt(a.sum() * b.sum())
    assert least < solution.lower_bound <= solution.value < most, f"{solution.value} is not in [{least}, {most}]"


@pytest.mark.parametrize("decades", [1, 4, 8])
def test_a_matrix_of_many_equal_blocks_costs_as_many_times_one_of_them(decades: int) -> None:
    a, b = 10 ** np.random.default_rng(decades).uniform(-decades / 2, decades / 2, (2, 9, 11))
    one, many = solve(a, b), solve(np.tile(a, (15, 15)), np.tile(b, (15, 15)))
    assert_certified(many, 1e-12, f"225 blocks over {decades} decades")
    difference = abs(many.value / (225 * one.value) - 1)
    assert difference <= 2e-12, f"225 blocks cost {many.value}, one of them {one.value}: off by {difference:.1e}"


@pytest.mark.parametrize("size", [30, 60])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.6])
@pytest.mark.parametrize("decades", [12, 24])
def test_sparse_matrices_of_wide_range_are_certified(decades: int, density: float, size: int) -> None:
    rng = np.random.default_rng(decades + size)
    for trial in range(15):
        a, b = random_matrices(rng, decades, largest=size, density=density)
        assert_certified(solve(a, b), 1e-12, f"trial {trial}, density {density}, 1e-{decades} to 1e{decades}")


def test_cells_below_the_rounding_of_others_do_not_derail_newton() -> None:
    a, b = random_matrices(np.random.default_rng(2017), 50, largest=60, density=0.05)
    assert_certified(solve(a, b), 1e-12, "a block with parts of 1e-16 of its value")


def test_a_long_cycle_of_wide_range_takes_a_moderate_number_of_steps() -> None:
    a, b, infimum = cycle(np.random.default_rng(5), 200, 60)
    solution = solve(a, b)
    assert_infimum(solution, infimum, "a cycle of 200 rows")
    assert solution.newton_steps < 100, f"{solution.newton_steps} Newton steps"


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_entries_down_to_1e_300_are_certified(density: float) -> None:
    rng = np.random.default_rng(7)
    for trial in range(20):
        a, b = random_matrices(rng, 150, largest=20, density=density) * 1e-150
        assert_certified(solve(a, b), 1e-12, f"trial {trial}, entries from 1e-300 to 1")


@pytest.mark.parametrize("decades", [100, 160, 300])
def test_ranges_that_no_common_unit_can_hold_are_solved(decades: int) -> None:
    high, low = 10.0**decades, 10.0**-decades
    assert_infimum(solve(np.diag([high, low]), np.diag([low, high])), 4.0, "two blocks of opposite scale", 1e-12)
    a, b = np.array([[high, 1.0], [1.0, low]]), np.array([[low, 1.0], [1.0, high]])
    assert_infimum(solve(a, b), 8.0, "one block of opposite scales", 1e-12)


@seeds(4)
def test_newton_finishes_what_sweeps_do_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    solutions = []
    for _ in range(10):
        a, b, infimum = known_infimum(rng, 3, -9, 10)
        solution = solve(a, b)
        assert_infimum(solution, infimum, "weakly tied clusters")
        solutions.append(solution)
    assert max(solution.newton_steps for solution in solutions) > 3, "no instance needed Newton's method"


def test_the_newton_step_solves_the_linear_system() -> None:
    rng = np.random.default_rng(5)
    gamma, mu = rng.exponential(size=(4, 6)), rng.normal(size=(4, 6))
    dx, dy = newton_step(gamma, mu)
    remainder = mu + gamma * (dx[:, None] + dy)
    sums = np.concatenate([remainder.sum(axis=1), remainder.sum(axis=0)])
    assert np.abs(sums).max() < 1e-14, f"row and column sums {sums} do not vanish"


def test_an_unsolved_linear_system_certifies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_step(gamma: Array, mu: Array) -> tuple[Array, Array]:
        return np.zeros(gamma.shape[0]), np.zeros(mu.shape[1])

    monkeypatch.setattr("invariant_sharpness.solvers.rows_columns.newton.newton_step", no_step)
    a, b, infimum = known_infimum(np.random.default_rng(0), 3, -9, 10)
    solution = solve(a, b)
    assert solution.value > infimum * (1 + 1e-12), "this instance is solved by sweeps alone"
    assert solution.lower_bound <= infimum, f"a bound {solution.lower_bound} above the infimum {infimum}"


def least_excess(rising: float, falling: float, flow: float) -> float:
    """How far the minimum of ``A e^t + B e^-t - flow * t`` lies below A + B, by search."""
    best = minimize_scalar(
        lambda t: rising * np.exp(t) + falling * np.exp(-t) - flow * t,
        bounds=(-80, 80),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return rising + falling - float(best.fun)


@pytest.mark.parametrize(("rising", "falling"), [(1.0, 1.0), (3.0, 0.2), (1e-6, 2.0), (1.0, 0.0), (0.0, 2.0)])
@pytest.mark.parametrize("share", [-3.0, -0.9, -0.3, 0.0, 0.3, 0.9, 3.0])
def test_the_loss_of_a_cell_is_that_of_its_minimum(rising: float, falling: float, share: float) -> None:
    delta = share * (rising + falling)
    flow = rising - falling - delta
    bounded = (rising > 0 or flow <= 0) and (falling > 0 or flow >= 0)
    searched = least_excess(rising, falling, flow) if bounded else np.inf
    cells = (np.array([rising]), np.array([falling]))
    exact = exact_losses(*cells, np.array([flow])).item()
    assert np.isclose(exact, searched, rtol=1e-8, atol=1e-8), f"the loss is {exact}, but a search finds {searched}"
    upper = quadratic_losses(sum(cells), np.array([delta])).item()
    assert upper >= exact - 1e-12, f"the quadratic loss {upper} is less than the exact one {exact}: no bound"
