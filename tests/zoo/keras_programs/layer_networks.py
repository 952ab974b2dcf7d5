"""Networks of all layers that have rules for squared gradients, and of some that have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops
from keras_problems import with_head, with_random_weights

CHANNELS = "channels_last" if keras.backend.backend() == "tensorflow" else "channels_first"
"""TensorFlow has no convolutions with channels first without a GPU."""


def images() -> keras.Model:
    """Convolutions with strides, dilation, groups and both paddings, and normalization with statistics of its own."""
    x = keras.Input((7, 6, 2))
    y = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    y = layers.BatchNormalization()(y)
    y = layers.Conv2D(4, (2, 3), dilation_rate=2, padding="same", use_bias=False)(y)
    y = layers.GroupNormalization(2)(y)
    y = layers.Conv2D(6, (3, 2), padding="same", groups=2, activation="relu")(y)
    y = layers.DepthwiseConv2D((2, 3), strides=2, depth_multiplier=2, padding="same")(y)
    y = layers.Conv2D(5, 2)(y)
    return with_head(x, layers.Flatten()(y))


def lines() -> keras.Model:
    """Convolutions of one axis: causal, dilated, with strides, channel by channel."""
    x = keras.Input((9, 2))
    y = layers.Conv1D(4, 3, dilation_rate=2, padding="causal", activation="relu")(x)
    y = layers.DepthwiseConv1D(2, depth_multiplier=2, activation="relu")(y)
    return with_head(x, layers.Flatten()(layers.Conv1D(3, 3, strides=2)(y)))


def volumes() -> keras.Model:
    """A convolution of three axes."""
    x = keras.Input((4, 3, 4, 2))
    y = layers.Conv3D(3, 2, strides=2, padding="same", activation="relu")(x)
    return with_head(x, layers.GlobalAveragePooling3D()(y))


def tokens() -> keras.Model:
    """Tokens, some of which occur more than once, and attention."""
    x = keras.Input((5,), dtype="int32")
    y = layers.Embedding(4, 6)(x)
    y = layers.LayerNormalization()(y + layers.MultiHeadAttention(2, 3)(y, y))
    y = layers.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d", activation="gelu")(y)
    y = layers.RMSNormalization()(layers.Dense(4, activation="relu")(y))
    return with_head(x, layers.GlobalAveragePooling1D()(y))


def partly_frozen() -> keras.Model:
    """A convolution of which the bias is measured alone, and a layer at several positions of which the kernel is."""
    x = keras.Input((9, 2))
    first, second = layers.Conv1D(4, 3, activation="relu"), layers.Dense(3, activation="relu")
    model = with_head(x, layers.GlobalAveragePooling1D()(second(first(x))))
    first.kernel.trainable = second.bias.trainable = False
    return model


def without_rules() -> keras.Model:
    """Transposed and separable convolutions, one with channels first, and a recurrent layer."""
    x = keras.Input((5, 5, 3))
    y = layers.Conv2D(3, 2, data_format=CHANNELS)(x)
    y = layers.Conv2DTranspose(3, 2, strides=2, activation="relu")(y)
    y = layers.SeparableConv2D(4, 2, strides=3, activation="relu")(y)
    return with_head(x, layers.SimpleRNN(3)(layers.Reshape((-1, 4))(y)))


def shared() -> keras.Model:
    """A layer that is called twice, and one whose output goes two ways."""
    x = keras.Input((5,))
    twice = layers.Dense(5, activation="tanh")
    split = layers.Dense(4, activation="relu")(twice(twice(x)))
    y = layers.Concatenate()([split, layers.Dense(3)(split)])
    return with_head(x, y)


def axes_in_other_places() -> keras.Model:
    """Normalization along an axis that is not the last, but as long; examples that do not come first."""
    x = keras.Input((4, 4))
    y = layers.BatchNormalization(axis=1)(layers.LayerNormalization(axis=1)(x))
    y = ops.transpose(layers.Dense(4)(ops.transpose(y, (1, 0, 2))), (1, 0, 2))
    return with_head(x, layers.Flatten()(y))


class Tied(keras.Model):
    """A kernel is used once more, outside of its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = layers.Dense(4, activation="relu")
        self.last = layers.Dense(3)

    def call(self, inputs: Any) -> Any:
        y = self.hidden(inputs)
        return self.last(y + ops.matmul(ops.matmul(y, ops.transpose(self.hidden.kernel)), self.hidden.kernel))


def tied() -> keras.Model:
    network = Tied()
    network(ops.zeros((1, 5)))
    return with_random_weights(network)


WITH_RULES: dict[str, Callable[[], keras.Model]] = {
    "images": images,
    "lines": lines,
    "volumes": volumes,
    "tokens": tokens,
    "partly frozen": partly_frozen,
}
OTHERS: dict[str, Callable[[], keras.Model]] = {
    "without rules": without_rules,
    "shared": shared,
    "axes in other places": axes_in_other_places,
    "tied": tied,
}
