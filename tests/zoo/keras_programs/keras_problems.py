"""Networks of the Keras tests, with weights that come from other libraries. Runs in a process of its own."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import layers

import invariant_sharpness as ish
from invariant_sharpness_keras import backend
from invariant_sharpness_keras.oracle import KerasOracle
from invariant_sharpness_numpy import ReluNetwork

DOUBLE = keras.backend.backend() == "tensorflow"
"""Whether float64 is real: on JAX and PyTorch, Keras computes in float32."""

keras.config.set_floatx("float64" if DOUBLE else "float32")


USUAL = tuple(
    name
    for name, metric in ish.METRICS.items()
    if metric.default or name in ("hessian_frobenius_norm", "local_regret", "average_adaptive_sharpness")
)
"""Metrics that together ask an oracle for all that it can do; all others are made of the same."""


def relu_network() -> ReluNetwork:
    random = np.random.default_rng(0)
    sizes = (5, 7, 6, 3)
    weights = tuple(random.normal(size=(n, m)) for m, n in pairwise(sizes))
    return ReluNetwork(weights, tuple(random.normal(size=n) for n in sizes[1:]))


def perceptron(network: ReluNetwork | None = None, activation: str = "relu") -> keras.Model:
    """The same network in Keras."""
    network = network or relu_network()
    widths = [len(W) for W in network.weights]
    hidden = [layers.Dense(width, activation=activation, name=f"hidden{i}") for i, width in enumerate(widths[:-1])]
    last = layers.Dense(widths[-1], name="last")
    model = keras.Sequential([keras.Input((network.inputs,)), *hidden, last], name="perceptron")
    model.set_weights([array for W, b in zip(network.weights, network.biases or (), strict=True) for array in (W.T, b)])
    return model


def convolutional() -> keras.Model:
    """Batch norm with statistics of its own, depthwise and transposed convolutions, max pooling."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(2, depth_multiplier=2),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Conv2DTranspose(3, 2),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ],
        name="convolutional",
    )
    return with_random_weights(model)


def residual() -> keras.Model:
    """Two convolutions beside a shortcut, one of them grouped; batch norm with statistics of its own."""
    images = keras.Input((6, 6, 2))
    shortcut = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", use_bias=False)(images)))
    y = layers.Conv2D(4, 3, padding="same", use_bias=False, groups=2)(shortcut)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", use_bias=False)(y))
    y = layers.ReLU()(layers.Add()([y, shortcut]))
    outputs = layers.Dense(3)(layers.GlobalAveragePooling2D()(y))
    return with_random_weights(keras.Model(images, outputs, name="residual"))


def with_head(x: Any, features: Any) -> keras.Model:
    """The network of these inputs and features with three outputs, and random weights."""
    return with_random_weights(keras.Model(x, layers.Dense(3)(features)))


def with_random_weights(model: keras.Model) -> keras.Model:
    random = np.random.default_rng(1)
    for variable in model.weights:
        positive = variable.name in ("gamma", "moving_variance")
        values = random.uniform(0.5, 2, variable.shape) if positive else random.normal(size=variable.shape) / 2
        variable.assign(values)
    return model


@cache
def perceptron_oracle(loss: str = "cross_entropy") -> KerasOracle:
    """In batches of which the last is short."""
    targets = inputs(11, 3) if loss == "mse" else labels()
    return backend.oracle(perceptron(), (inputs(), targets), loss=loss, batch_size=4)


@cache
def convolutional_oracle() -> KerasOracle:
    return backend.oracle(convolutional(), (inputs(6, 8, 8, 2), labels(6)), loss="cross_entropy")


def inputs(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(2).normal(size=shape or (11, 5))


def labels(examples: int = 11) -> np.ndarray[Any, Any]:
    return np.arange(examples) % 3


def state(model: Any) -> list[np.ndarray[Any, Any]]:
    """All variables, and the random states that a data set may draw from."""
    random = np.random.get_state()  # noqa: NPY002
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables] + [random[1].copy(), np.array(random[2])]


def same(before: list[Any], after: list[Any]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True))
