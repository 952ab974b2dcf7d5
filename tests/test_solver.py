"""The solver of (17) against SciPy, closed forms, instances of known infimum and its own certificate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp

from invariant_sharpness.coordinates.solver import RowColumnSolution, solve
from invariant_sharpness.coordinates.solver.duality import exact_losses, quadratic_losses
from invariant_sharpness.coordinates.solver.newton import newton_step

Array = Any


def objective(a: Array, b: Array, x: Array, y: Array) -> float:
    """(17) at the scales exp(x), exp(y), as it is printed."""
    z = x[:, None] + y[None, :]
    return float((a * np.exp(z) + b * np.exp(-z)).sum())


def log_objective(a: Array, b: Array) -> Any:
    """The logarithm of (17) and its gradient in (x, y), a convex function that no range of values can spoil."""
    with np.errstate(divide="ignore"):
        log_a, log_b = np.log(a), np.log(b)

    def function(point: Array) -> tuple[float, Array]:
        z = point[: len(a), None] + point[None, len(a) :]
        logarithm = float(logsumexp([log_a + z, log_b - z]))
        slopes = np.exp(log_a + z - logarithm) - np.exp(log_b - z - logarithm)
        return logarithm, np.concatenate([slopes.sum(axis=1), slopes.sum(axis=0)])

    return function


def scipy_minimum(a: Array, b: Array, start: Array) -> float:
    """The least value that BFGS and L-BFGS find."""
    function = log_objective(a, b)
    options = {"L-BFGS-B": {"maxiter": 2000, "ftol": 0, "gtol": 1e-12}, "BFGS": {"maxiter": 500, "gtol": 1e-12}}
    with np.errstate(over="ignore", invalid="ignore"):  # the points run off where the infimum is zero
        found = [minimize(function, start, jac=True, method=name, options=o) for name, o in options.items()]
    return float(np.exp(np.nanmin([result.fun for result in found])))


def random_matrices(rng: np.random.Generator, decades: float, *, largest: int = 8, density: float = 1.0) -> Array:
    """Curvatures and squared weights spread over ``2 * decades`` powers of ten."""
    shape = (2, *rng.integers(1, largest + 1, 2))
    return 10 ** rng.uniform(-decades, decades, shape) * (rng.random(shape) < density)


def known_infimum(rng: np.random.Generator, clusters: int, weakest: float, spread: float) -> tuple[Array, Array, float]:
    """Matrices made from their minimizer z and a circulation mu: the infimum is the sum of gamma.

    Clusters of rows and columns are tied to each other by cells that are down to ``10**weakest`` as large.
    """
    shape = tuple(rng.integers(2, 13, 2))
    row, column = (rng.integers(0, clusters, n) for n in shape)
    ties = 10 ** rng.uniform(weakest, weakest / 3, (clusters, clusters))
    np.fill_diagonal(ties, 1.0)
    gamma = ties[row][:, column] * rng.uniform(0.5, 1, shape)
    mu = np.zeros(shape)
    for _ in range(4 * gamma.size):
        (i, k), (j, m) = rng.integers(0, shape[0], 2), rng.integers(0, shape[1], 2)
        cells = ([i, k, i, k], [j, m, m, j])
        flow = rng.uniform(-0.2, 0.2) * gamma[cells].min() * np.array([1, 1, -1, -1])
        if i != k and j != m and (np.abs(mu[cells] + flow) < 0.9 * gamma[cells]).all():
            mu[cells] += flow
    offset = rng.uniform(-spread, spread, (2, clusters))
    z = (offset[0, row] + rng.normal(size=shape[0]))[:, None] + offset[1, column] + rng.normal(size=shape[1])
    return (gamma + mu) / 2 * np.exp(-z), (gamma - mu) / 2 * np.exp(z), float(gamma.sum())


def cycle(rng: np.random.Generator, size: int, decades: float) -> tuple[Array, Array, float]:
    """One cycle of one-sided cells, whose infimum is ``2 n`` times the geometric mean of its cells."""
    rising, falling = 10 ** rng.uniform(-decades, decades, (2, size))
    mean = np.exp((np.log(rising).sum() + np.log(falling).sum()) / (2 * size))
    return np.diag(rising), np.roll(np.diag(falling), 1, axis=1), float(2 * size * mean)


def layer(seed: int, rows: int, columns: int) -> tuple[Array, Array]:
    """What a trained layer looks like: curvature of rank near one, normal weights."""
    rng = np.random.default_rng(seed)
    rank_one = rng.exponential(size=(rows, 1)) * rng.exponential(size=columns)
    return rank_one * rng.exponential(size=(rows, columns)), 0.01 * rng.normal(size=(rows, columns)) ** 2


def assert_certified(solution: RowColumnSolution, tolerance: float, what: str) -> None:
    assert solution.gap <= tolerance, (
        f"gap {solution.gap:.1e} > {tolerance:.0e} of {what}, after {solution.sweeps} sweeps and "
        f"{solution.newton_steps} Newton steps: {solution.lower_bound} <= {solution.value}"
    )


def assert_infimum(solution: RowColumnSolution, infimum: float, what: str, tolerance: float = 2e-12) -> None:
    assert_certified(solution, 1e-12, what)
    excess, overshoot = solution.value / infimum - 1, solution.lower_bound / infimum - 1
    assert abs(excess) <= tolerance, f"value of {what} is off by {excess:.1e}: {solution.value}, not {infimum}"
    assert overshoot <= 1e-13, f"lower bound of {what} is {overshoot:.1e} above the infimum {infimum}"


@pytest.mark.parametrize("part", range(6))
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
        assert solution.within_blocks.sum() == 20, f"{kind} zero: {solution.within_blocks} should be a 4 x 5 block"


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


@pytest.mark.parametrize(("rows", "columns"), [(512, 784), (784, 512)])
def test_a_large_layer_needs_a_few_sweeps_alone(rows: int, columns: int) -> None:
    a, b = layer(3, rows, columns)
    solution = solve(a, b)
    assert_certified(solution, 1e-12, f"a {rows} x {columns} layer")
    assert solution.newton_steps == 0, f"{solution.newton_steps} Newton steps where sweeps suffice"
    least, most = 2 * np.sqrt(a * b).sum(), 2 * np.sqrt(a.sum() * b.sum())
    assert least < solution.lower_bound <= solution.value < most, f"{solution.value} is not in [{least}, {most}]"


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


@pytest.mark.parametrize("seed", range(4))
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

    monkeypatch.setattr("invariant_sharpness.coordinates.solver.newton.newton_step", no_step)
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


@settings(deadline=None, max_examples=150)
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


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32), decades=st.floats(0, 12))
def test_value_lies_between_those_of_one_scale_per_cell_and_one_for_all(seed: int, decades: float) -> None:
    a, b = random_matrices(np.random.default_rng(seed), decades)
    solution = solve(a, b)
    least, most = 2 * np.sqrt(a * b).sum(), 2 * np.sqrt(a.sum() * b.sum())
    assert least * (1 - 1e-13) <= solution.value <= most * (1 + 1e-11), f"{solution.value} not in [{least}, {most}]"


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32), density=st.sampled_from([0.5, 1.0]))
def test_the_value_is_that_of_the_objective_at_the_solution(seed: int, density: float) -> None:
    a, b = random_matrices(np.random.default_rng(seed), 6, density=density)
    solution = solve(a, b)
    z = np.where(solution.within_blocks, solution.rows[:, None] + solution.columns, 0)
    cost = float(((a * np.exp(z) + b * np.exp(-z)) * solution.within_blocks).sum())
    assert abs(cost - solution.value) <= 1e-12 * max(cost, 1e-300), f"{cost} at the solution, not {solution.value}"


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32), exponent=st.integers(0, 26), powers_of_two=st.booleans())
def test_rescaling_rows_and_columns_moves_the_scales_and_not_the_value(
    seed: int, exponent: int, powers_of_two: bool
) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_matrices(rng, 2)
    draw = (
        (lambda n: rng.integers(-exponent, exponent + 1, n))
        if powers_of_two
        else (lambda n: rng.uniform(-exponent, exponent, n))
    )
    r, c = 2.0 ** draw(len(a)), 2.0 ** draw(a.shape[1])
    factor = np.outer(r, c) ** 2
    before, after = solve(a, b, tolerance=1e-26), solve(a / factor, b * factor, tolerance=1e-26)
    change = abs(after.value / before.value - 1)
    assert change <= 1e-12, f"rescaling by {r} and {c} changes the value by {change:.1e}"
    z = (m.rows[:, None] + m.columns for m in (before, after))
    error = np.abs(np.log(factor) + next(z) - next(z)).max()
    assert error <= 1e-7, f"rescaling by {r} and {c} moves ln sigma^2 by {error:.1e} too much or too little"


def test_polished_scales_are_equivariant_to_rounding() -> None:
    rng = np.random.default_rng(8)
    a, b = layer(8, 40, 60)
    factor = np.outer(10 ** rng.uniform(-8, 8, 40), 10 ** rng.uniform(-8, 8, 60)) ** 2
    before, after = solve(a, b, tolerance=1e-26), solve(a / factor, b * factor, tolerance=1e-26)
    z = [solution.rows[:, None] + solution.columns for solution in (before, after)]
    error = np.abs(z[1] - z[0] - np.log(factor)).max()
    assert error <= 1e-12, f"ln sigma^2 moved wrongly by {error:.1e}"


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32), density=st.sampled_from([0.5, 1.0]))
def test_transposing_permuting_and_exchanging_a_and_b_change_nothing(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_matrices(rng, 4, density=density)
    row, column = rng.permutation(len(a)), rng.permutation(a.shape[1])
    expected = solve(a, b)
    others = {
        "transposed": solve(a.T.copy(), b.T.copy()),
        "permuted": solve(a[row][:, column], b[row][:, column]),
        "exchanged": solve(b, a),
    }
    for name, solution in others.items():
        difference = abs(solution.value - expected.value)
        assert difference <= 2e-12 * expected.value, f"{name}: {solution.value}, not {expected.value}"
        assert solution.attained == expected.attained, f"{name}: attained is {solution.attained}"


@pytest.mark.parametrize("power", [-200, -60, 100, 200])
def test_a_power_of_four_in_front_moves_the_value_by_its_root_exactly(power: int) -> None:
    a, b = layer(4, 5, 6)
    assert solve(np.ldexp(a, 2 * power), b).value == np.ldexp(solve(a, b).value, power), f"not exact for 4**{power}"


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
