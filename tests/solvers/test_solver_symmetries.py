"""What must not move the value of (17), and how the scales move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invariant_sharpness.solvers.rows_columns import solve
from zoo.solver_problems import (
    layer,
    random_matrices,
)

Array = Any


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
