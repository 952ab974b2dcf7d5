"""A few metrics and derivatives against the NumPy backend and against differences."""

from __future__ import annotations

from typing import Any

import keras
from keras_problems import inputs, labels, perceptron, perceptron_oracle, relu_network

import invariant_sharpness as ish
from invariant_sharpness_keras import backend

END_TO_END = ["normalized_sharpness", "hessian_spectral_norm", "average_adaptive_sharpness"]
"""Metrics made of exact diagonals, of products, and of losses at random points."""


def metrics_from_end_to_end() -> dict[str, list[float]]:
    """Three metrics and the loss, on Keras and on the NumPy backend."""
    oracles = perceptron_oracle(), ish.oracle(relu_network(), (inputs(), labels()), "cross_entropy")
    mine, reference = (ish.measure(oracle, END_TO_END) for oracle in oracles)
    return {name: [mine[name].value, reference[name].value] for name in END_TO_END} | {
        "loss": [mine.loss, reference.loss]
    }


def squared_error() -> list[float]:
    reference = ish.oracle(relu_network(), (inputs(), inputs(11, 3)), "mse")
    return [ish.hessian_trace(oracle).value for oracle in (perceptron_oracle("mse"), reference)]


def callable_loss() -> dict[str, list[float]]:
    """A callable that is the cross-entropy has the values of the name."""

    def loss(outputs: Any, targets: Any) -> Any:
        hot = keras.ops.cast(targets[:, None] == keras.ops.arange(3, dtype=targets.dtype)[None], outputs.dtype)
        return keras.ops.logsumexp(outputs, axis=1) - keras.ops.sum(outputs * hot, axis=1)

    named, called = perceptron_oracle(), backend.oracle(perceptron(), (inputs(), labels()), loss=loss)
    point = named.parameters
    return {
        "loss": [called.loss(point), named.loss(point)],
        "trace": [ish.hessian_trace(called).value, ish.hessian_trace(named).value],
        "fisher_rao": [ish.fisher_rao_norm(called).value, ish.fisher_rao_norm(named).value],
        "gauss_newton": [oracle.gauss_newton_vector_product(point, point).dot(point) for oracle in (called, named)],
        "slopes": [oracle.directional_second_moment(point, point) for oracle in (called, named)],
    }


def derivative_by_differences() -> list[float]:
    """The slope of the loss along a direction, of a smooth network, and the same from central differences."""
    oracle = backend.oracle(perceptron(activation="tanh"), (inputs(), labels()), loss="cross_entropy")
    point, step = oracle.parameters, 2.0**-8
    difference = (oracle.loss((1 + step) * point) - oracle.loss((1 - step) * point)) / (2 * step)
    return [oracle.gradient(point).dot(point), difference]


CHECKS = [
    metrics_from_end_to_end,
    squared_error,
    callable_loss,
    derivative_by_differences,
]
