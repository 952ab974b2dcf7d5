"""Which parameters share a row and a column: every layout against a loop over its entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy.linalg import block_diag

import invariant_sharpness as ish
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal
from invariant_sharpness.parameters.matrices import (
    LayerMatrix,
    append_bias,
    channel_matrices,
    from_channel_matrices,
    others,
    split_bias,
    weights_alone,
    weights_with_biases,
)
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness.solvers.rows_columns import solve
from invariant_sharpness_numpy import FunctionOracle

Array = Any
Cell = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """A parameter, the size of its matrix, and the row and column of the entry at an index, by definition."""

    group: ParameterGroup
    rows: int
    columns: int
    cell: Callable[[tuple[int, ...]], Cell]

    def matrix(self, values: Array) -> Array:
        """The sums over the entries that share a row and a column, one entry after the other."""
        sums = np.zeros((self.rows, self.columns))
        for index in np.ndindex(*self.group.shape):
            sums[self.cell(index)] += values[index]
        return sums

    def spread(self, matrix: Array) -> Array:
        """For every entry the element of the matrix at its row and column."""
        return np.array([matrix[self.cell(index)] for index in np.ndindex(*self.group.shape)]).reshape(self.group.shape)


def group(shape: tuple[int, ...], outputs: tuple[int, ...], inputs: tuple[int, ...], **options: Any) -> ParameterGroup:
    role = "matrix" if len(shape) == 2 else "convolution"
    return ParameterGroup("weight", shape, role, outputs, inputs, **options)


LAYOUTS = {
    "dense (out, in)": Layout(group((3, 4), (0,), (1,)), 3, 4, lambda i: (i[0], i[1])),
    "dense (in, out)": Layout(group((4, 3), (1,), (0,)), 3, 4, lambda i: (i[1], i[0])),
    "dense (in, heads, size)": Layout(
        ParameterGroup("weight", (4, 2, 3), "matrix", (1, 2), (0,)), 6, 4, lambda i: (i[1] * 3 + i[2], i[0])
    ),
    "convolution": Layout(group((3, 4, 2, 5), (0,), (1,)), 3, 4, lambda i: (i[0], i[1])),
    "convolution in 1D": Layout(group((3, 4, 5), (0,), (1,)), 3, 4, lambda i: (i[0], i[1])),
    "grouped convolution": Layout(
        group((6, 2, 3, 2), (0,), (1,), channel_groups=3), 6, 6, lambda i: (i[0], (i[0] // 2) * 2 + i[1])
    ),
    "depthwise convolution": Layout(group((4, 1, 3, 3), (0,), (1,), channel_groups=4), 4, 4, lambda i: (i[0], i[0])),
    "depthwise convolution, multiplier 2": Layout(
        group((6, 1, 3, 3), (0,), (1,), channel_groups=3), 6, 3, lambda i: (i[0], i[0] // 2)
    ),
    "transposed convolution": Layout(
        group((4, 3, 2, 2), (1,), (0,), divided_axes="output"), 3, 4, lambda i: (i[1], i[0])
    ),
    "grouped transposed convolution": Layout(
        group((6, 2, 3, 2), (1,), (0,), channel_groups=3, divided_axes="output"),
        6,
        6,
        lambda i: ((i[0] // 2) * 2 + i[1], i[0]),
    ),
    "Keras convolution": Layout(group((2, 5, 4, 3), (3,), (2,)), 3, 4, lambda i: (i[3], i[2])),
    "Keras grouped convolution": Layout(
        group((3, 2, 2, 6), (3,), (2,), channel_groups=3), 6, 6, lambda i: (i[3], (i[3] // 2) * 2 + i[2])
    ),
    "Keras depthwise convolution": Layout(
        group((3, 2, 4, 2), (3,), (2,), channel_groups=4, divided_axes="output"),
        8,
        4,
        lambda i: (i[2] * 2 + i[3], i[2]),
    ),
    "Keras transposed convolution": Layout(group((2, 2, 3, 4), (2,), (3,)), 3, 4, lambda i: (i[2], i[3])),
}


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Layout:
    return LAYOUTS[request.param]


def entries(layout: Layout, seed: int = 0) -> Array:
    """Whole numbers, so that sums are exact."""
    return np.random.default_rng(seed).integers(1, 100, layout.group.shape).astype(float)


def test_blocks_are_the_sums_over_entries_of_equal_row_and_column(layout: Layout) -> None:
    values = entries(layout)
    blocks = channel_matrices(layout.group, values)
    assert len(blocks) == layout.group.channel_groups, f"{len(blocks)} blocks of {layout.group}"
    matrix, expected = block_diag(*blocks), layout.matrix(values)
    assert np.array_equal(matrix, expected), f"{layout.group} is put into\n{matrix}\nand not into\n{expected}"


def test_every_entry_finds_its_cell(layout: Layout) -> None:
    blocks = np.arange(1.0, 1 + channel_matrices(layout.group, entries(layout)).size)
    blocks = blocks.reshape(channel_matrices(layout.group, entries(layout)).shape)
    spread, expected = from_channel_matrices(layout.group, blocks), layout.spread(block_diag(*blocks))
    assert np.array_equal(spread, expected), f"{layout.group} takes\n{spread}\nand not\n{expected}"


def test_blocks_of_a_spread_matrix_are_the_matrix_times_the_kernel_size(layout: Layout) -> None:
    blocks = channel_matrices(layout.group, entries(layout))
    positions = int(np.prod([layout.group.shape[axis] for axis in layout.group.kernel_axes]))
    again = channel_matrices(layout.group, from_channel_matrices(layout.group, blocks))
    assert np.array_equal(again, positions * blocks), f"{again} is not {positions} times {blocks}"


def test_a_bias_is_one_more_column_of_its_rows(layout: Layout) -> None:
    values, bias = entries(layout), 1000.0 + np.arange(layout.rows)
    joined = append_bias(channel_matrices(layout.group, values), bias)
    expected = np.column_stack([layout.matrix(values), bias])
    assert np.array_equal(joined, expected[None]), f"[W | b] is\n{joined}\nand not\n{expected}"
    weight, own = split_bias(layout.group, joined)
    assert np.array_equal(weight, channel_matrices(layout.group, values)), f"{weight} is not the weight of {joined}"
    assert np.array_equal(own, bias), f"{own} is not the bias {bias}"


def test_a_family_takes_its_arrays_apart_and_together(layout: Layout) -> None:
    layer = LayerMatrix(layout.group, ParameterGroup("bias", (layout.rows,), "bias", (0,), owner="weight"))
    arrays = {"weight": entries(layout), "bias": 1000.0 + np.arange(layout.rows)}
    blocks = layer.matrices(arrays)
    apart = layer.arrays(blocks)
    assert np.array_equal(apart["bias"], arrays["bias"]), f"{apart['bias']} is not the bias {arrays['bias']}"
    expected = layout.spread(layout.matrix(arrays["weight"]))
    assert np.array_equal(apart["weight"], expected), f"{apart['weight']} is not {expected}"


def test_layers_join_weights_and_gains_with_the_bias_they_own() -> None:
    groups = [
        ParameterGroup("bias", (3,), "bias", (0,), owner="weight"),
        ParameterGroup("weight", (3, 4), "matrix", (0,), (1,)),
        ParameterGroup("gain", (3,), "norm", (0,)),
        ParameterGroup("shift", (3,), "bias", (0,), owner="gain"),
        ParameterGroup("embedding", (5, 3), "embedding", (0,), (1,)),
        ParameterGroup("stray", (3,), "bias"),
        ParameterGroup("temperature", (), "other"),
    ]
    joined = weights_with_biases(groups)
    names = [layer.names for layer in joined]
    assert names == [("weight", "bias"), ("gain", "shift"), ("embedding",)], f"layers {names}"
    rest = [g.name for g in others(groups, joined)]
    assert rest == ["stray", "temperature"], f"in no layer: {rest}"
    alone = [layer.names for layer in weights_alone(groups)]
    assert alone == [("weight",), ("embedding",)], f"weights alone: {alone}"


def test_a_gain_and_its_shift_are_two_columns() -> None:
    layer = LayerMatrix(
        ParameterGroup("gain", (3,), "norm", (0,)), ParameterGroup("shift", (3,), "bias", (0,), owner="gain")
    )
    blocks = layer.matrices({"gain": np.array([1.0, 2.0, 3.0]), "shift": np.array([4.0, 5.0, 6.0])})
    assert np.array_equal(blocks, [[[1, 4], [2, 5], [3, 6]]]), f"{blocks} is not one matrix of two columns"


def sharpness(parameter: ParameterGroup, weight: Array, curvature: Array) -> ish.Estimate:
    """Normalized sharpness of one parameter of known curvatures."""
    oracle = FunctionOracle({parameter.name: weight}, lambda _: 0.0, dict, lambda _, v: v, [parameter])
    diagonal = ish.HessianDiagonal({parameter.name: GroupDiagonal(curvature, "exact")})
    return ish.normalized_sharpness(oracle, diagonal=diagonal)


def weight_and_curvature(layout: Layout) -> tuple[Array, Array]:
    rng = np.random.default_rng(5)
    return rng.normal(size=layout.group.shape), rng.exponential(size=layout.group.shape)


def test_normalized_sharpness_solves_the_matrix_of_sums(layout: Layout) -> None:
    weight, curvature = weight_and_curvature(layout)
    expected = solve(layout.matrix(curvature), layout.matrix(weight**2)).value
    value = sharpness(layout.group, weight, curvature).value
    assert abs(value / expected - 1) < 3e-12, f"{value}, but the matrix of {layout.group} gives {expected}"


@pytest.mark.parametrize("name", ["grouped convolution", "depthwise convolution, multiplier 2"])
def test_grouped_convolution_measures_as_the_dense_one_with_structural_zeros(name: str) -> None:
    layout = LAYOUTS[name]
    weight, curvature = weight_and_curvature(layout)
    dense = replace(layout.group, shape=(layout.rows, layout.columns, *layout.group.shape[2:]), channel_groups=1)
    wide_weight, wide_curvature = np.zeros(dense.shape), np.zeros(dense.shape)
    for index in np.ndindex(*layout.group.shape):
        place = (*layout.cell(index), *index[2:])
        wide_weight[place], wide_curvature[place] = weight[index], curvature[index]
    narrow, wide = (
        sharpness(layout.group, weight, curvature).value,
        sharpness(dense, wide_weight, wide_curvature).value,
    )
    assert abs(narrow / wide - 1) < 3e-12, f"the grouped kernel gives {narrow}, the dense one {wide}"


@pytest.mark.parametrize("name", ["grouped convolution", "grouped transposed convolution", "Keras grouped convolution"])
def test_normalized_sharpness_of_grouped_kernels_ignores_the_scale_of_channels(name: str) -> None:
    layout = LAYOUTS[name]
    weight, curvature = weight_and_curvature(layout)
    rng = np.random.default_rng(6)
    factors = layout.spread(np.outer(10 ** rng.uniform(-4, 4, layout.rows), 10 ** rng.uniform(-4, 4, layout.columns)))
    before = sharpness(layout.group, weight, curvature).value
    after = sharpness(layout.group, weight * factors, curvature / factors**2).value
    assert abs(after / before - 1) < 3e-12, f"{before} becomes {after} when the channels of {name} are rescaled"


def test_normalized_sharpness_of_a_depthwise_kernel_has_a_closed_form() -> None:
    layout = LAYOUTS["depthwise convolution"]
    weight, curvature = weight_and_curvature(layout)
    expected = 2 * np.sqrt(curvature.sum(axis=(1, 2, 3)) * (weight**2).sum(axis=(1, 2, 3))).sum()
    value = sharpness(layout.group, weight, curvature).value
    assert abs(value / expected - 1) < 1e-14, f"{value} is not {expected}"
