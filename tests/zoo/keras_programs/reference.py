"""Metrics and derivatives against the NumPy backend and against differences."""

from __future__ import annotations

from typing import Any

import keras
from keras_problems import USUAL, inputs, labels, perceptron, perceptron_oracle, relu_network

import invariant_sharpness as ish
from invariant_sharpness_keras import backend

FEWER_STEPS: dict[str, dict[str, int]] = {
    "flatness_volume": {"probes": 2, "steps": 8},
    "posterior_sharpness": {"draws": 4, "max_iterations": 20},
}
"""Of metrics that take hundreds of products or gradients by default."""


def every_metric_of_the_reference() -> dict[str, Any]:
    """Every metric on Keras, whether it has converged there, and its value on the NumPy backend."""
    oracles = perceptron_oracle(), ish.oracle(relu_network(), (inputs(), labels()), "cross_entropy")
    found = {}
    for name, metric in ish.METRICS.items():
        mine, reference = (metric.function(oracle, **FEWER_STEPS.get(name, {})) for oracle in oracles)
        found[name] = [mine.value, reference.value, mine.converged]
    return found


def metrics_under_the_normalized_loss() -> dict[str, list[float]]:
    """The usual metrics and the loss, on Keras and on the NumPy backend."""
    loss = "normalized_cross_entropy"
    oracles = perceptron_oracle(loss), ish.oracle(relu_network(), (inputs(), labels()), loss)
    mine, reference = (ish.measure(oracle, USUAL) for oracle in oracles)
    return {name: [mine[name].value, reference[name].value] for name in USUAL} | {"loss": [mine.loss, reference.loss]}


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
    every_metric_of_the_reference,
    metrics_under_the_normalized_loss,
    squared_error,
    callable_loss,
    derivative_by_differences,
]
