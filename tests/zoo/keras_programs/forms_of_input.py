"""Data in all forms, and models of several inputs."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers
from keras_problems import inputs, labels, perceptron

import invariant_sharpness as ish
from invariant_sharpness_keras import backend


class Pieces(keras.utils.PyDataset):
    """The data of the other tests, in batches of four."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        rows = slice(4 * index, 4 * index + 4)
        return inputs()[rows], labels()[rows]


def forms_of_data() -> dict[str, float]:
    """One loss for all of them."""
    x, y = inputs(), labels()
    forms = {
        "arrays": (x, y),
        "list": [(x[:4], y[:4]), (x[4:], y[4:])],
        "tensors": [(keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y))],
        "PyDataset": Pieces(),
        "bytes": (x, y.astype("uint8")),
    }
    oracles = {kind: backend.oracle(perceptron(), data, loss="cross_entropy") for kind, data in forms.items()}
    return {kind: oracle.loss(oracle.parameters) for kind, oracle in oracles.items()}


def two_inputs() -> list[list[float]]:
    """Loss and trace with inputs in a dictionary and in a tuple; the loss of constant outputs is ln 3."""
    a, b = keras.Input((5,), name="a"), keras.Input((2,), name="b")
    outputs = layers.Dense(3, kernel_initializer="zeros")(layers.Concatenate()([a, b]))
    cases = (
        (keras.Model({"a": a, "b": b}, outputs), {"a": inputs(), "b": inputs(11, 2), "labels": labels()}),
        (keras.Model([a, b], outputs), ((inputs(), inputs(11, 2)), labels())),
    )
    oracles = [backend.oracle(model, data, loss="cross_entropy") for model, data in cases]
    return [[oracle.loss(oracle.parameters), ish.hessian_trace(oracle).value] for oracle in oracles]


CHECKS = [forms_of_data, two_inputs]
