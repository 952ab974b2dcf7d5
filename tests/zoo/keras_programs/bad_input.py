"""The errors for everything that can be wrong."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from forms_of_input import Pieces
from keras import layers
from keras_problems import inputs, labels, perceptron

import invariant_sharpness as ish
from invariant_sharpness.adapters import Cotangents
from invariant_sharpness_keras import backend


class Noisy(Pieces):
    """Random augmentation."""

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x + np.random.normal(size=x.shape), y  # noqa: NPY002


class Dropping(keras.Model):
    """Dropout that is never switched off."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.dense = layers.Dropout(0.5, seed=0), layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.dense(self.dropout(x, training=True))


def errors() -> dict[str, str]:
    """Type and words of the error for everything that can be wrong."""
    x, y = inputs(), labels()
    spoiled = x.copy()
    spoiled[4, 2] = np.nan
    softmax = keras.Sequential([keras.Input((5,)), layers.Dense(3, activation="softmax")])
    mixed = keras.Sequential([keras.Input((5,)), layers.Dense(3, dtype="mixed_bfloat16")])
    half = keras.Sequential([keras.Input((5,)), layers.Dense(3, dtype="bfloat16")])
    infinite = perceptron()
    infinite.layers[0].kernel.assign(np.full((5, 7), np.inf))
    still = perceptron()
    still.trainable = False
    z = keras.Input((5,))
    dropping = Dropping()
    dropping(x)
    two = keras.Model(z, [layers.Dense(3)(z), layers.Dense(3)(z)])
    cases: dict[str, tuple[Any, Any, Any]] = {
        "empty list": (perceptron(), [], "cross_entropy"),
        "empty batch": (perceptron(), [(x, y), (x[:0], y[:0])], "cross_entropy"),
        "generator": (perceptron(), iter([(x, y)]), "cross_entropy"),
        "no labels": (perceptron(), {"x": x}, "cross_entropy"),
        "rows": (perceptron(), [(x, y[:7])], "cross_entropy"),
        "NaN input": (perceptron(), [(x, y), (spoiled, y)], "cross_entropy"),
        "label": (perceptron(), [(x, y), (x, y + 1)], "cross_entropy"),
        "columns": (perceptron(), (x, np.eye(2, dtype=int)[y % 2]), "cross_entropy"),
        "features": (perceptron(), (x[:, :4], y), "cross_entropy"),
        "augmentation": (perceptron(), Noisy(), "cross_entropy"),
        "unknown loss": (perceptron(), (x, y), "hinges"),
        "mean loss": (perceptron(), (x, y), lambda outputs, _: keras.ops.mean(outputs)),
        "from probabilities": (perceptron(), (x, y), keras.losses.SparseCategoricalCrossentropy()),
        "softmax": (softmax, (x, y), "cross_entropy"),
        "infinite weight": (infinite, (x, y), "cross_entropy"),
        "frozen": (still, (x, y), "cross_entropy"),
        "unbuilt": (keras.Sequential([layers.Dense(3)]), (x, y), "cross_entropy"),
        "mixed precision": (mixed, (x, y), "cross_entropy"),
        "half precision": (half, (x, y), "cross_entropy"),
        "dropout in inference": (dropping, (x, y), "cross_entropy"),
        "two outputs": (two, (x, y), "cross_entropy"),
    }
    return {what: failure(*case) for what, case in cases.items()}


def failure(model: Any, data: Any, loss: Any) -> str:
    try:
        backend.oracle(model, data, loss=loss)
    except ish.InvariantSharpnessError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def example_with_an_infinite_loss() -> str:
    def loss(outputs: Any, targets: Any) -> Any:
        return keras.ops.where(keras.ops.equal(targets, 2), np.inf, 1.0) * keras.ops.sum(outputs**2, axis=1)

    try:
        ish.measure(backend.oracle(perceptron(), [(inputs(2, 5), labels(2)), (inputs(), labels())], loss=loss))
    except ish.InvariantSharpnessError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def unknown_cotangents() -> list[str]:
    """The errors for cotangents of no known kind, and for random ones without draws."""
    engine, found = backend.oracle(perceptron(), (inputs(), labels()), loss="cross_entropy").engine, []
    for cotangents in (Cotangents("hessian"), Cotangents("sampled")):
        with engine.at(engine.native(engine.parameters())) as point:
            try:
                point.squares(frozenset({engine.groups[0].name}), cotangents, engine.batch((inputs(), labels())))
            except ish.InvariantSharpnessError as error:
                found.append(f"{type(error).__name__}: {error}")
    return found


CHECKS = [errors, example_with_an_infinite_loss, unknown_cotangents]
