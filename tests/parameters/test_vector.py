"""ParameterVector against flat NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invariant_sharpness import ParameterVector
from zoo.vectors import flat

SHAPES = {"weight": (3, 4), "bias": (3,), "kernel": (2, 3, 2), "scalar": ()}


def vector(seed: int) -> ParameterVector:
    random = np.random.default_rng(seed)
    return ParameterVector(xp, {name: random.uniform(0.5, 2.0, shape) for name, shape in SHAPES.items()})


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - b,
    "a * b": lambda a, b: a * b,
    "a / b": lambda a, b: a / b,
    "a * 3.7": lambda a, _: a * 3.7,
    "3.7 * a": lambda a, _: 3.7 * a,
    "a / 3.7": lambda a, _: a / 3.7,
    "-a": lambda a, _: -a,
    "abs(a - b)": lambda a, b: abs(a - b),
}


@pytest.mark.parametrize("name", OPERATIONS)
@given(seed=st.integers(0, 1000))
def test_arithmetic_is_that_of_the_flat_array(name: str, seed: int) -> None:
    a, b = vector(seed), vector(seed + 1)
    result, expected = flat(OPERATIONS[name](a, b)), OPERATIONS[name](flat(a), flat(b))
    assert np.array_equal(result, expected), f"{name} = {result}, but flat NumPy gives {expected}"


@pytest.mark.parametrize("name", OPERATIONS)
def test_arithmetic_leaves_its_operands_alone(name: str) -> None:
    a, b = vector(0), vector(1)
    OPERATIONS[name](a, b)
    assert np.array_equal(flat(a), flat(vector(0))), f"{name} changed its left operand"
    assert np.array_equal(flat(b), flat(vector(1))), f"{name} changed its right operand"


@given(seed=st.integers(0, 1000))
def test_dot_and_norm_are_those_of_the_flat_array(seed: int) -> None:
    a, b = vector(seed), vector(seed + 1)
    dot, expected = (a - b).dot(b), float((flat(a) - flat(b)) @ flat(b))
    assert dot == pytest.approx(expected, abs=1e-13), f"dot = {dot}, but flat NumPy gives {expected}"
    norm, expected = a.norm(), float(np.linalg.norm(flat(a)))
    assert norm == pytest.approx(expected, rel=1e-14), f"norm = {norm}, but flat NumPy gives {expected}"


@pytest.mark.parametrize("exponent", [-148, -130, -70, 0, 70, 120])
def test_norm_does_not_leave_the_range_of_single_precision(exponent: int) -> None:
    entries = np.ldexp(np.array([3.0, 4.0]), exponent)
    norm, expected = ParameterVector(xp, {"weight": entries.astype(np.float32)}).norm(), 5 * 2.0**exponent
    assert norm == expected, f"the norm of (3, 4) * 2^{exponent} in float32 is {norm}, but should be {expected}"


@pytest.mark.parametrize("entries", [[], [0.0], [1e-200]])
def test_norm_passes_over_groups_without_entries(entries: list[float]) -> None:
    norm, expected = ParameterVector(xp, {"weight": np.array(entries), "none": np.zeros((0, 3))}).norm(), sum(entries)
    assert norm == pytest.approx(expected, rel=1e-15, abs=0), f"the norm of {entries} is {norm}"


@pytest.mark.parametrize("entry", [np.inf, np.nan])
def test_norm_of_what_is_not_finite_is_not(entry: float) -> None:
    norm = ParameterVector(xp, {"weight": np.array([1.0]), "bias": np.array([-entry])}).norm()
    assert np.array_equal(norm, entry, equal_nan=True), f"the norm of (1, {-entry}) is {norm}, but should be {entry}"


def test_dot_of_a_million_equal_float32_entries_keeps_its_digits() -> None:
    array = np.full(10**6, 0.1, dtype=np.float32)
    v = ParameterVector(xp, {"weight": array})
    dot, exact = v.dot(v), 10**6 * float(array[0]) ** 2
    error = abs(dot / exact - 1)
    assert error < 2e-7, f"dot = {dot}, but the sum is {exact}: relative error {error:.1e}"


def test_dot_adds_the_groups_without_cancellation() -> None:
    large, small = np.array([1e16]), np.array([1.0])
    v = ParameterVector(xp, {"large": large, "small": small, "opposite": -large})
    ones = v.map(np.ones_like)
    assert v.dot(ones) == 1.0, f"1e16 + 1 - 1e16 = {v.dot(ones)}, but should be 1"


def test_only_keeps_the_named_groups_and_zeroes_the_others() -> None:
    kept = vector(0).only(["bias", "scalar"])
    assert list(kept.arrays) == list(SHAPES), f"groups {list(kept.arrays)}, but should be {list(SHAPES)}"
    for name in SHAPES:
        expected = vector(0)[name] * (name in ("bias", "scalar"))
        assert np.array_equal(kept[name], expected), f"{name} = {kept[name]}, but should be {expected}"


def test_map_applies_a_function_group_by_group() -> None:
    squares = vector(0).map(np.square)
    assert np.array_equal(flat(squares), flat(vector(0)) ** 2), f"squares {flat(squares)}"


def test_dtypes_of_the_groups_are_kept() -> None:
    v = ParameterVector(xp, {"half": np.ones(2, np.float32), "full": np.ones(2)})
    dtypes = {name: array.dtype for name, array in (2.0 * v / 3.0 - v * 1.5).arrays.items()}
    assert dtypes == {"half": np.float32, "full": np.float64}, f"dtypes became {dtypes}"
