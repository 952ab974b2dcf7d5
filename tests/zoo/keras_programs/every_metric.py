"""Every metric against the NumPy backend."""

from __future__ import annotations

from typing import Any

from keras_problems import USUAL, inputs, labels, perceptron_oracle, relu_network

import invariant_sharpness as ish

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


CHECKS = [every_metric_of_the_reference, metrics_under_the_normalized_loss]
