"""The rescaling symmetries of networks in Keras, as they print."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from keras_problems import convolutional, inputs, labels, perceptron, with_random_weights

from invariant_sharpness.symmetries import find_symmetries
from invariant_sharpness_keras import backend


def symmetries() -> dict[str, dict[str, Any]]:
    """For each network: the generators, how many units are idle, and whether the search was complete."""
    networks = {
        "perceptron": (perceptron(), inputs()),
        "perceptron of gelu": (perceptron(activation="gelu"), inputs()),
        "convolutional": (convolutional(), inputs(8, 8, 8, 2)),
        "words": (words(), np.arange(40).reshape(8, 5) % 6),
    }
    return {name: of(model, x) for name, (model, x) in networks.items()}


def words() -> keras.Model:
    """An embedding, its normalization, and a squared ReLU."""
    tokens = keras.Input((5,), dtype="int32")
    y = layers.LayerNormalization(name="norm")(layers.Embedding(6, 4, name="table")(tokens))
    y = layers.Dense(3, activation="relu", name="inner")(layers.GlobalAveragePooling1D()(y))
    return with_random_weights(keras.Model(tokens, layers.Dense(3, name="last")(y * y)))


def of(model: keras.Model, x: Any) -> dict[str, Any]:
    found = find_symmetries(backend.oracle(model, (x, labels(len(x))), loss="cross_entropy"))
    return {"texts": [str(generator) for generator in found], "idle": found.idle, "complete": found.complete}


CHECKS = [symmetries]
