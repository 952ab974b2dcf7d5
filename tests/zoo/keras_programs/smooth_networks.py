"""Networks with smooth nonlinearities, each with the layers that have none of their own outputs to draw at."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers, ops
from keras_problems import with_head


def perceptron() -> keras.Model:
    x = keras.Input((4,))
    y = layers.Dense(6, activation="gelu")(x)
    return with_head(x, layers.Dense(5, activation="silu")(y))


def convolutional() -> keras.Model:
    """Convolutions with strides, groups and channels by themselves; normalization by statistics of its own and of groups."""
    x = keras.Input((5, 4, 2))
    y = layers.Conv2D(4, (2, 3), padding="same", activation="silu")(x)
    y = layers.GroupNormalization(2)(layers.BatchNormalization()(y))
    y = layers.DepthwiseConv2D(2, strides=2, activation="gelu")(y)
    y = layers.Conv2D(4, 2, groups=2, padding="same", activation="tanh")(y)
    return with_head(x, layers.GlobalAveragePooling2D()(y))


def encoder() -> keras.Model:
    """Attention of two heads, and a layer that is a product by an equation."""
    x = keras.Input((3,), dtype="int32")
    y = layers.Embedding(4, 6)(x)
    z = layers.LayerNormalization()(y)
    y = y + layers.MultiHeadAttention(2, 3)(z, z)
    z = layers.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d", activation="gelu")(
        layers.LayerNormalization()(y)
    )
    y = y + layers.Dense(6)(z)
    return with_head(x, layers.GlobalAveragePooling1D()(y))


def gated() -> keras.Model:
    x = keras.Input((3, 4))
    y = layers.RMSNormalization()(layers.Dense(4)(x))
    y = layers.Dense(6, activation="silu", use_bias=False)(y) * layers.Dense(6, use_bias=False)(y)
    y = ops.mean(layers.Dense(4, use_bias=False, activation="gelu")(y), axis=1)
    return with_head(x, y)


def transposed_units() -> keras.Model:
    """Products by equations whose output units are not the last axes, or come once more for each position."""
    x = keras.Input((3, 4))
    y = layers.EinsumDense("abc,cd->adb", output_shape=(5, 3), bias_axes="d", activation="gelu")(x)
    y = layers.EinsumDense("adb,dbe->aeb", output_shape=(2, 3), activation="silu")(y)
    return with_head(x, layers.Flatten()(y))


def recurrent() -> keras.Model:
    """A layer below a loop, and one above; the cells of the loop have no rule."""
    x = keras.Input((3, 4))
    y = layers.GRU(3)(layers.Dense(3, activation="gelu")(x))
    return with_head(x, layers.Dense(5, activation="gelu")(y))


def shared() -> keras.Model:
    """A layer that is called twice."""
    x = keras.Input((4,))
    twice = layers.Dense(4, activation="tanh", name="twice")
    return with_head(x, layers.Dense(5, activation="gelu")(twice(twice(x))))


SMOOTH: dict[str, Callable[[], keras.Model]] = {
    "perceptron": perceptron,
    "convolutional": convolutional,
    "encoder": encoder,
    "gated": gated,
    "transposed units": transposed_units,
    "recurrent": recurrent,
    "shared": shared,
}
