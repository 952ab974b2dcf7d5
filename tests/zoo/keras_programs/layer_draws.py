"""The residual part of the diagonal of smooth networks, layer by layer, on TensorFlow."""

from __future__ import annotations

from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from dense_jacobian import outputs_and_jacobian
from keras import layers
from keras_problems import labels, with_random_weights
from layer_squares import EXAMPLES, examples_of, gauss_newton_diagonal, single_precision
from smooth_networks import SMOOTH, perceptron

import invariant_sharpness as ish
from invariant_sharpness.protocol import ResidualDiagonalOracle, capability
from invariant_sharpness_keras import backend

Array = np.ndarray[Any, Any]

DRAWS = 200
DRAWN = ("convolutional", "encoder")


def residual_diagonals() -> dict[str, dict[str, float]]:
    """For each network and each variable that belongs to a layer, the error of the unit vectors."""
    return {name: errors_of(oracle_of(name)) for name in SMOOTH}


def variables_outside_of_layers() -> dict[str, list[str]]:
    found = {}
    for name in SMOOTH:
        oracle = oracle_of(name)
        units = oracle.layer_units(oracle.parameters)
        found[name] = [group.name for group in oracle.groups if group.name not in units]
    return found


def residual_diagonal_in_single_precision() -> dict[str, float]:
    """Errors relative to the largest entry of the dense Hessian's diagonal, in all variables."""
    with single_precision():
        network = perceptron()
        oracle, x = able_oracle(network, EXAMPLES), examples_of(network).astype("float32")
        largest = max(float(np.abs(part).max()) for part in hessian_diagonal(network, x, labels(EXAMPLES)))
        return {name: error / largest for name, error in errors_of(oracle).items()}


def errors_of_means_of_draws() -> dict[str, dict[str, float]]:
    """For each network and variable, the largest error of the mean of many draws, in its standard errors."""
    return {name: _in_standard_errors(oracle_of(name)) for name in DRAWN}


def draws_in_batches() -> dict[str, float]:
    """For each variable of products by equations, how far a draw moves in two batches, relative to its largest entry."""
    network, draws = SMOOTH["transposed units"](), []
    for size in (EXAMPLES - 1, EXAMPLES):
        oracle = able_oracle(network, size)
        units = oracle.layer_units(oracle.parameters)
        draws.append(oracle.to_numpy(oracle.sampled_residual_diagonal(oracle.parameters, units, range(2), 5)))
    cut, whole = draws
    return {
        group: float(np.abs(cut[group] - array).max()) / max(float(np.abs(array).max()), 1e-3)
        for group, array in whole.items()
    }


def draws_after_a_rescaling() -> dict[str, Any]:
    """Whether the estimate of each variable moves with the units bit by bit, and how it was made."""
    factors = 2.0 ** np.array([3, -5, 0, 9, -2, 1, 7])
    moved = {"up/kernel": factors, "up/bias": factors, "down/kernel": 1 / factors[:, None]}
    before, after = (_estimated(_gated_units(by)) for by in ({}, moved))
    return {
        name: {
            "same": bool(np.array_equal(after[name].values * moved.get(name, 1.0) ** 2, group.values)),
            "method": group.method,
        }
        for name, group in before.groups.items()
    }


@cache
def oracle_of(name: str) -> Any:
    return able_oracle(SMOOTH[name](), EXAMPLES)


def able_oracle(network: keras.Model, batch_size: int) -> Any:
    x = examples_of(network)
    inputs = x if x.dtype.kind == "i" else x.astype(keras.config.floatx())
    oracle = backend.oracle(network, (inputs, labels(EXAMPLES)), loss="cross_entropy", batch_size=batch_size)
    assert capability(oracle, ResidualDiagonalOracle) is not None
    return oracle


def errors_of(oracle: Any) -> dict[str, float]:
    """Unit vectors against the diagonal of H - G, both dense."""
    x = examples_of(oracle.model)
    inputs = x if x.dtype.kind == "i" else x.astype(keras.config.floatx())
    units = oracle.layer_units(oracle.parameters)
    found = oracle.to_numpy(oracle.residual_diagonal(oracle.parameters, units))
    z, jacobian = outputs_and_jacobian(oracle.model, inputs)
    errors = {}
    for group, J, h in zip(
        oracle.groups, jacobian, hessian_diagonal(oracle.model, inputs, labels(EXAMPLES)), strict=True
    ):
        if group.name in units:
            errors[group.name] = float(np.abs(found[group.name] - (h - gauss_newton_diagonal(z, J))).max())
    return errors


def hessian_diagonal(model: keras.Model, x: Array, y: Array) -> list[Array]:
    """The diagonal of the dense Hessian of the mean cross-entropy, column by column, by TensorFlow's own tapes."""
    values = [tf.identity(variable.value) for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    @tf.function
    def column(unit: list[Any]) -> list[Any]:
        with tf.GradientTape() as outer:
            outer.watch(values)
            with tf.GradientTape() as inner:
                inner.watch(values)
                z, _ = model.stateless_call(values, fixed, tf.constant(x))
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, z))
            slopes = [tf.convert_to_tensor(part) for part in inner.gradient(loss, values, unconnected_gradients="zero")]
        found = outer.gradient(slopes, values, unit, unconnected_gradients="zero")
        return [tf.convert_to_tensor(part) for part in found]

    diagonal = []
    for number, value in enumerate(values):
        entries = []
        for entry in range(int(tf.size(value))):
            unit = [np.zeros(v.shape, v.dtype.as_numpy_dtype) for v in values]
            unit[number].flat[entry] = 1
            entries.append(column([tf.constant(part) for part in unit])[number].numpy().flat[entry])
        diagonal.append(np.array(entries, dtype=np.float64).reshape(value.shape))
    return diagonal


def _in_standard_errors(oracle: Any) -> dict[str, float]:
    units = oracle.layer_units(oracle.parameters)
    expected = oracle.to_numpy(oracle.residual_diagonal(oracle.parameters, units))
    samples = [
        oracle.to_numpy(oracle.sampled_residual_diagonal(oracle.parameters, units, range(number, number + 1), 0))
        for number in range(DRAWS)
    ]
    found = {}
    for name in units:
        drawn = np.stack([sample[name] for sample in samples])
        errors = drawn.std(0, ddof=1) / DRAWS**0.5 + 1e-12
        found[name] = float(np.abs((drawn.mean(0) - expected[name]) / errors).max())
    return found


def _gated_units(factors: dict[str, Array]) -> keras.Model:
    """Two layers whose outputs are multiplied, and mixed by a smooth function: rescaling the one moves no other output."""
    x = keras.Input((5,))
    y = layers.Dense(8, name="first")(x)
    y = layers.Dense(7, activation="silu", name="gate")(y) * layers.Dense(7, name="up")(y)
    y = layers.Dense(6, activation="gelu", name="down")(y)
    network = with_random_weights(keras.Model(x, layers.Dense(3, name="head")(y)))
    for variable in network.trainable_variables:
        variable.assign(variable * factors.get(variable.path, 1.0))
    return network


def _estimated(network: keras.Model) -> ish.HessianDiagonal:
    x = np.random.default_rng(4).normal(size=(12, 5))
    return ish.hessian_diagonal(backend.oracle(network, (x, labels(12)), loss="cross_entropy"), probes=4)


CHECKS = [
    residual_diagonals,
    variables_outside_of_layers,
    residual_diagonal_in_single_precision,
    errors_of_means_of_draws,
    draws_in_batches,
    draws_after_a_rescaling,
]
