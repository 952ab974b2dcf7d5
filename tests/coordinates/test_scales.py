"""The scales: positive, and equivariant under the group of rescalings that each claims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invariant_sharpness.coordinates import balanced, filter_norms, magnitudes, matrix_norms, optimal
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup
from invariant_sharpness.solvers.rows_columns import solve
from invariant_sharpness_numpy import FunctionOracle

Arrays = dict[str, Any]
Draw = Callable[[int], Any]

GROUPS = (
    ParameterGroup("dense", (3, 4), "matrix", (0,), (1,)),
    ParameterGroup("dense.bias", (3,), "bias", (0,), owner="dense"),
    ParameterGroup("convolution", (4, 2, 3, 2), "convolution", (0,), (1,), channel_groups=2),
    ParameterGroup("convolution.bias", (4,), "bias", (0,), owner="convolution"),
    ParameterGroup("kernel", (3, 2, 5), "convolution", (2,), (1,)),
    ParameterGroup("gain", (4,), "norm", (0,)),
    ParameterGroup("gain.bias", (4,), "bias", (0,), owner="gain"),
    ParameterGroup("stray", (2,), "other"),
)


def oracle_at(arrays: Arrays) -> CurvatureOracle:
    """Of an oracle the scales see the groups and the parameters alone."""
    return FunctionOracle(arrays, lambda _: 0.0, dict, lambda _, v: v, GROUPS)


def normal(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {g.name: rng.normal(size=g.shape) for g in GROUPS}


def with_zeros(seed: int) -> Arrays:
    """Zero entries, a zero row, a layer of zeros and zero biases."""
    arrays = normal(seed)
    rng = np.random.default_rng(seed + 1)
    for name, values in arrays.items():
        arrays[name] = values * (rng.random(values.shape) < 0.6)
    arrays["dense"][1] = 0
    arrays["kernel"][:] = 0
    arrays["convolution.bias"][:] = 0
    return arrays


def curvatures(seed: int) -> Arrays:
    rng = np.random.default_rng(seed + 2)
    return {g.name: rng.exponential(size=g.shape) for g in GROUPS}


def powers_of_two(seed: int) -> Draw:
    rng = np.random.default_rng(seed + 3)
    return lambda size: 2.0 ** rng.integers(-26, 27, size)


def any_factors(seed: int) -> Draw:
    rng = np.random.default_rng(seed + 4)
    return lambda size: 10.0 ** rng.uniform(-8, 8, size)


def every_diagonal(draw: Draw) -> Arrays:
    return {g.name: draw(g.size).reshape(g.shape) for g in GROUPS}


def one_per_group(draw: Draw) -> Arrays:
    return {g.name: np.full(g.shape, draw(1)[0]) for g in GROUPS}


def rows(draw: Draw) -> Arrays:
    """One factor per output unit, which biases and gains follow."""
    dense, convolution, kernel, gain = draw(3), draw(4), draw(5), draw(4)
    return {
        "dense": np.outer(dense, np.ones(4)),
        "dense.bias": dense,
        "convolution": np.broadcast_to(convolution[:, None, None, None], (4, 2, 3, 2)),
        "convolution.bias": convolution,
        "kernel": np.broadcast_to(kernel, (3, 2, 5)),
        "gain": gain,
        "gain.bias": gain,
        "stray": np.full(2, draw(1)[0]),
    }


def rows_and_columns(draw: Draw) -> Arrays:
    """And one factor per input unit: those of a grouped kernel are numbered across the channel groups."""
    factors = rows(draw)
    channels = draw(4)
    grouped = np.stack([channels[:2], channels[:2], channels[2:], channels[2:]])
    return factors | {
        "dense": factors["dense"] * draw(4),
        "convolution": factors["convolution"] * grouped[:, :, None, None],
        "kernel": factors["kernel"] * draw(2)[:, None],
    }


def optimal_here(oracle: CurvatureOracle, factors: Arrays | None = None) -> ParameterVector:
    """The scale of curvatures that transform as curvatures do."""
    h = curvatures(0)
    return optimal(oracle, h if factors is None else {name: h[name] / factors[name] ** 2 for name in h})


def defect(scale: Callable[..., ParameterVector], arrays: Arrays, factors: Arrays, seen: Arrays | None = None) -> float:
    """Largest relative difference between s(D theta) and D s(theta), over the entries that are ``seen``."""
    moved = {name: factors[name] * values for name, values in arrays.items()}
    options = {"factors": factors} if scale is optimal_here else {}
    before, after = scale(oracle_at(arrays)), scale(oracle_at(moved), **options)
    return max(
        float(
            np.max(np.abs(after[n] / (factors[n] * before[n]) - 1), where=True if seen is None else seen[n], initial=0)
        )
        for n in arrays
    )


SCALES = [magnitudes, matrix_norms, filter_norms, balanced, optimal_here]
GROUP_OF = {magnitudes: every_diagonal, matrix_norms: one_per_group, filter_norms: rows}
EXACT = list(GROUP_OF)
PRODUCTS = [balanced, optimal_here]


@pytest.mark.parametrize("scale", EXACT, ids=lambda s: s.__name__)
@given(seed=st.integers(0, 2**16))
def test_powers_of_two_move_the_scale_exactly(scale: Any, seed: int) -> None:
    error = defect(scale, normal(seed), GROUP_OF[scale](powers_of_two(seed)))
    assert error == 0, f"{scale.__name__} is off by {error:.1e} under powers of two"


@pytest.mark.parametrize("scale", EXACT, ids=lambda s: s.__name__)
@given(seed=st.integers(0, 2**16))
def test_any_factors_move_the_scale_to_rounding(scale: Any, seed: int) -> None:
    error = defect(scale, normal(seed), GROUP_OF[scale](any_factors(seed)))
    assert error <= 1e-12, f"{scale.__name__} is off by {error:.1e}"


@pytest.mark.parametrize("factors", [powers_of_two, any_factors])
@pytest.mark.parametrize("scale", PRODUCTS, ids=lambda s: s.__name__)
@given(seed=st.integers(0, 2**16))
def test_row_and_column_factors_move_the_scale_to_rounding(scale: Any, factors: Any, seed: int) -> None:
    error = defect(scale, normal(seed), rows_and_columns(factors(seed)))
    assert error <= 1e-12, f"{scale.__name__} is off by {error:.1e} under rescaling of rows and columns"


@pytest.mark.parametrize("scale", SCALES, ids=lambda s: s.__name__)
@given(seed=st.integers(0, 2**16))
def test_layers_with_zeros_move_the_scale_of_every_entry(scale: Any, seed: int) -> None:
    arrays, factors = with_zeros(seed), one_per_group(powers_of_two(seed))
    empty = [g.name for g in GROUPS if not (arrays[g.name].any() and arrays[g.owner or g.name].any())]
    seen = {name: np.full(values.shape, name not in empty) for name, values in arrays.items()}
    if scale not in (magnitudes, matrix_norms):  # a weight and its bias are one matrix, of one factor
        owners = {g.name: g.owner for g in GROUPS if g.owner is not None}
        factors |= {name: np.full(arrays[name].shape, factors[owner].flat[0]) for name, owner in owners.items()}
    error = defect(scale, arrays, factors, seen)
    assert error <= 1e-12, f"{scale.__name__} is off by {error:.1e} under rescaling of layers with zeros"


@given(seed=st.integers(0, 2**16))
def test_zeros_do_not_disturb_the_balanced_scale_of_other_entries(seed: int) -> None:
    arrays = with_zeros(seed)
    seen = {name: values != 0 for name, values in arrays.items()}
    seen["convolution"] = np.broadcast_to(seen["convolution"].any(axis=(2, 3), keepdims=True), (4, 2, 3, 2))
    error = defect(balanced, arrays, rows_and_columns(any_factors(seed)), seen)
    assert error <= 1e-12, f"the balanced scale of nonzero entries is off by {error:.1e}"


@pytest.mark.parametrize("arrays", [normal, with_zeros])
@pytest.mark.parametrize("scale", SCALES, ids=lambda s: s.__name__)
def test_scales_are_positive_and_finite(scale: Any, arrays: Any) -> None:
    for seed in range(10):
        vector = scale(oracle_at(arrays(seed)))
        for name, values in vector.arrays.items():
            good = np.isfinite(values).all() and (values > 0).all()
            assert good, f"{scale.__name__} of {name} is {values}"
            shape = next(g.shape for g in GROUPS if g.name == name)
            assert values.shape == shape, f"{scale.__name__} of {name} has shape {values.shape}, not {shape}"


def test_each_scale_is_what_its_name_says() -> None:
    arrays = normal(0)
    oracle, dense = oracle_at(arrays), arrays["dense"]
    expected = {
        magnitudes: np.abs(dense),
        matrix_norms: np.full((3, 4), np.sqrt(np.mean(dense**2))),
        filter_norms: np.repeat(np.sqrt(np.mean(dense**2, axis=1, keepdims=True)), 4, axis=1),
    }
    for scale, values in expected.items():
        assert np.allclose(scale(oracle)["dense"], values, rtol=1e-15), f"{scale.__name__} is {scale(oracle)['dense']}"
    filters = np.sqrt(np.mean(arrays["kernel"] ** 2, axis=(0, 1)))
    assert np.allclose(filter_norms(oracle)["kernel"], filters, rtol=1e-15), "a filter is not what one output sees"
    stray = np.sqrt(np.mean(arrays["stray"] ** 2))
    assert np.allclose(filter_norms(oracle)["stray"], stray, rtol=1e-15), "a group without rows has one norm"


def test_balanced_leaves_no_trend_along_rows_or_columns() -> None:
    arrays = normal(3)
    scale = balanced(oracle_at(arrays))
    joined = np.column_stack([arrays["dense"], arrays["dense.bias"]])
    fitted = np.column_stack([scale["dense"], scale["dense.bias"]])
    remainder = np.log(np.abs(joined) / fitted)
    trends = np.concatenate([remainder.sum(axis=0), remainder.sum(axis=1)])
    assert np.abs(trends).max() < 1e-13, f"row and column sums of the logarithms are {trends}"
    assert np.linalg.matrix_rank(fitted, tol=1e-12) == 1, f"{fitted} is not a product of rows and columns"


def test_a_bias_of_zeros_is_as_large_as_the_weights_of_its_rows() -> None:
    arrays = normal(8) | {"dense.bias": np.zeros(3)}
    small = {name: 1e-6 * values for name, values in arrays.items()}
    for scale in (balanced, filter_norms):
        values = scale(oracle_at(small))
        ratio = values["dense.bias"] / np.exp(np.log(values["dense"]).mean(axis=1))
        assert np.allclose(ratio, 1, rtol=1e-12), f"{scale.__name__} of a zero bias is {ratio} times that of its row"


def test_optimal_is_the_minimizer_of_17() -> None:
    arrays, h = normal(4), curvatures(4)
    scale = optimal(oracle_at(arrays), h)
    solution = solve(
        np.column_stack([h["dense"], h["dense.bias"]]),
        np.column_stack([arrays["dense"], arrays["dense.bias"]]) ** 2,
        tolerance=1e-15,
    )
    expected = np.exp((solution.rows[:, None] + solution.columns) / 2)
    fitted = np.column_stack([scale["dense"], scale["dense.bias"]])
    error = float(np.abs(fitted / expected - 1).max())
    assert error < 1e-6, f"sigma is off by {error:.1e} from that of the solver"
    slopes = h["dense"] * scale["dense"] ** 2 - (arrays["dense"] / scale["dense"]) ** 2
    balance = slopes.sum(axis=0)
    assert np.abs(balance).max() < 1e-12 * np.abs(slopes).max(), f"the derivative in the columns is {balance}, not 0"


def test_kernel_positions_of_one_filter_share_their_optimal_scale() -> None:
    scale = optimal(oracle_at(normal(5)), curvatures(5))["convolution"]
    assert np.ptp(scale, axis=(2, 3)).max() == 0, f"the scale varies within a filter: {scale}"


def test_optimal_counts_negative_curvatures_as_zero() -> None:
    arrays, h = normal(6), curvatures(6)
    negative = h | {"dense": np.where(np.arange(4) == 2, -1.0, h["dense"])}
    zero = h | {"dense": np.where(np.arange(4) == 2, 0.0, h["dense"])}
    first, second = (optimal(oracle_at(arrays), values)["dense"] for values in (negative, zero))
    assert np.array_equal(first, second), f"{first} with negative curvatures, {second} with zeros"


def test_optimal_falls_back_on_balanced_where_there_is_no_curvature() -> None:
    arrays, h = normal(7), curvatures(7)
    oracle = oracle_at(arrays)
    dead = h | {"dense": h["dense"] * (np.arange(3) != 1)[:, None], "dense.bias": h["dense.bias"] * (np.arange(3) != 1)}
    row = optimal(oracle, dead)["dense"][1]
    assert np.array_equal(row, balanced(oracle)["dense"][1]), f"the scale of a dead row is {row}"
    partial = optimal(oracle, {"dense": h["dense"]})
    for name in ("kernel", "dense.bias", "stray"):
        same = np.array_equal(partial[name], balanced(oracle)[name])
        assert same, f"{name} has no curvature, but its scale is {partial[name]} and not the balanced one"
