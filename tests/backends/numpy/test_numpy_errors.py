"""What the NumPy backend says about networks and data that are wrong: each message names the thing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import ParameterVector
from invariant_sharpness.errors import DataError, LossError, ModelError, NonFiniteError
from invariant_sharpness.losses import CrossEntropy
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

EXAMPLES = 11
RANDOM = np.random.default_rng(4)
X, Y = RANDOM.normal(size=(EXAMPLES, 4)), RANDOM.integers(0, 3, EXAMPLES)
NAN_X = np.where(np.arange(EXAMPLES)[:, None] == 7, np.nan, X)
NETWORK = ReluNetwork.initialize((4, 5, 3, 3), seed=0)


@pytest.mark.parametrize(
    ("weights", "biases", "error", "message"),
    [
        ([], None, ModelError, "at least one layer"),
        ([np.ones(3)], None, ModelError, r"layers.0.weight has shape \(3,\)"),
        ([np.ones((0, 3))], None, ModelError, r"layers.0.weight has shape \(0, 3\)"),
        ([np.ones((4, 3)), np.ones((2, 5))], None, ModelError, r"layers.1.weight .* 5 inputs, .* 4 outputs"),
        ([np.ones((4, 3)) * 1j], None, ModelError, "layers.0.weight is complex"),
        ([np.ones((4, 3)), np.full((2, 4), np.inf)], None, NonFiniteError, "layers.1.weight has NaN"),
        ([np.ones((4, 3))], [], ModelError, "1 weights and 0 biases"),
        ([np.ones((4, 3))], [np.ones(3)], ModelError, r"layers.0.bias has shape \(3,\), but the layer has 4 outputs"),
        ([np.ones((4, 3))], [np.full(4, np.nan)], NonFiniteError, "layers.0.bias has NaN"),
    ],
)
def test_a_wrong_layer_is_named(weights: Any, biases: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ReluNetwork(weights, biases)


@pytest.mark.parametrize("sizes", [(3,), (3, 0, 2)])
def test_wrong_sizes_are_named(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="sizes="):
        ReluNetwork.initialize(sizes, seed=0)


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "message"),
    [
        (X[:0], Y[:0], {}, DataError, "data are empty"),
        (X[0], Y, {}, DataError, r"x has shape \(4,\), but the network takes 4 inputs"),
        (X[:, :3], Y, {}, DataError, r"x has shape \(11, 3\), but the network takes 4 inputs"),
        (X, Y[:10], {}, DataError, r"x has 11 rows, but y has shape \(10,\)"),
        (X, np.array(1), {}, DataError, r"x has 11 rows, but y has shape \(\)"),
        (NAN_X, Y, {}, NonFiniteError, "x has NaN .* first in row 7"),
        (X, NAN_X[:, :3], {"loss": "mse"}, NonFiniteError, "y has NaN .* first in row 7"),
        (X * 1j, Y, {}, DataError, "x has dtype complex128"),
        (X, np.array(["cat"] * EXAMPLES), {}, DataError, "y has dtype <U3"),
        (X, np.where(np.arange(EXAMPLES) == 9, 3, Y), {"batch_size": 4}, DataError, "batch 2 .rows 8 to 10.: target 3"),
        (X, Y.astype(float), {}, DataError, "dtype float64, but class labels are integers"),
        (X, Y, {"loss": "mse"}, DataError, "squared error needs equal shapes"),
        (X, Y, {"batch_size": 0}, DataError, "batch_size=0"),
        (X, np.full(EXAMPLES, -100), {}, DataError, "every label is ignored"),
        (X, Y, {"loss": CrossEntropy(class_weights=(1.0, 2.0))}, DataError, "2 class weights .* 3 outputs"),
        (X, Y, {"loss": "hinge"}, LossError, "'hinge' is not known"),
        (X, Y, {"loss": lambda z, _: z}, LossError, "function has no closed-form derivatives"),
    ],
)
def test_wrong_data_are_named(x: Any, y: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        NetworkOracle(NETWORK, x, y, **options)


def test_parameters_that_are_not_finite_are_named() -> None:
    oracle = NetworkOracle(NETWORK, X, Y)
    there = ParameterVector(oracle.xp, {**oracle.parameters.arrays, "layers.1.bias": np.full(3, np.nan)})
    with pytest.raises(NonFiniteError, match=r"layers.1.bias has NaN"):
        oracle.gradient(there)


def test_outputs_that_overflow_are_named() -> None:
    oracle = NetworkOracle(NETWORK, X, Y)
    with pytest.raises(NonFiniteError, match="outputs of the network overflow"):
        oracle.loss(oracle.parameters * 1e200)


@pytest.mark.parametrize("data", [X, [(X, Y)], {"x": X, "y": Y}], ids=["array", "batches", "dictionary"])
def test_data_that_are_no_pair_are_refused(data: Any) -> None:
    with pytest.raises(DataError, match=r"needs a pair of arrays: data=\(x, y\)"):
        ish.oracle(NETWORK, data)
