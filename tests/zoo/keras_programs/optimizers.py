"""The states of Keras' optimizers against optimizers that are written out in NumPy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
from keras_problems import DOUBLE, inputs, labels, perceptron, relu_network

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError
from invariant_sharpness_keras import backend

sys.path.append(str(Path(__file__).parents[1]))

from optimizer_references import (
    BETA1,
    BETA2,
    DECAY,
    EPSILON,
    MOMENTUM,
    RATE,
    STEPS,
    THRESHOLDS,
    reference_value,
)


def optimizer(kind: str) -> Any:
    if kind == "adam":
        return keras.optimizers.Adam(RATE, BETA1, BETA2, epsilon=EPSILON)
    if kind == "rmsprop":
        return keras.optimizers.RMSprop(RATE, DECAY, MOMENTUM, epsilon=EPSILON)
    return keras.optimizers.SGD(RATE, MOMENTUM, nesterov=True)


def trained(kind: str) -> tuple[Any, Any]:
    """A model, and the optimizer after some steps of the full batch."""
    model, chosen = perceptron(), optimizer(kind)
    gradients = ish.oracle(model, (inputs(), labels()))
    chosen.build(model.trainable_variables)
    for _ in range(STEPS):
        arrays = gradients.to_numpy(gradients.gradient(gradients.parameters))
        values = [keras.ops.convert_to_tensor(array, dtype=keras.config.floatx()) for array in arrays.values()]
        chosen.apply(values, model.trainable_variables)
    return model, chosen


def states_of_optimizers() -> dict[str, list[float]]:
    """Value, that of the reference, threshold, and that of the formula."""
    reference, found = ish.oracle(relu_network(), (inputs(), labels())), {}
    for kind, threshold in THRESHOLDS.items():
        model, chosen = trained(kind)
        oracle = backend.oracle(model, (inputs(), labels()), loss="cross_entropy")
        tolerance = 1e-8 if DOUBLE else 1e-6
        value = ish.preconditioned_sharpness(oracle, optimizer=chosen, tolerance=tolerance).value
        state = ish.optimizer_state(oracle, chosen)
        found[kind] = [value, reference_value(reference, kind, keras=True), state.threshold, threshold]
    return found


def optimizers_that_cannot_be_read() -> dict[str, str]:
    model = perceptron()
    oracle = backend.oracle(model, (inputs(), labels()), loss="cross_entropy")
    other, elsewhere = keras.optimizers.Adagrad(), keras.optimizers.SGD(0.1)
    other.build(model.trainable_variables)
    elsewhere.build(perceptron().trainable_variables)
    messages = {}
    for name, one in (("fresh", keras.optimizers.Adam()), ("other", other), ("elsewhere", elsewhere)):
        try:
            ish.optimizer_state(oracle, one)
        except ModelError as error:
            messages[name] = str(error)
    return messages


CHECKS = [states_of_optimizers, optimizers_that_cannot_be_read]
