"""Roles, axes and owners of the variables of layers."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers
from keras_problems import inputs, labels, perceptron

import invariant_sharpness as ish
from invariant_sharpness_keras import backend
from invariant_sharpness_keras.groups import parameter_groups


def attention() -> dict[str, Any]:
    """Groups of an attention layer, and symmetry of its products."""
    x = keras.Input((4, 6))
    y = layers.MultiHeadAttention(2, 3)(x, x)
    y = layers.LayerNormalization()(y)
    model = keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(y)))
    oracle = backend.oracle(model, (inputs(5, 4, 6), labels(5)), loss="cross_entropy")
    u, v = (oracle.from_numpy({g.name: inputs(*g.shape) + k for g in oracle.groups}) for k in (0, 1))
    along_u, along_v = (oracle.hessian_vector_product(oracle.parameters, w) for w in (u, v))
    groups = {g.name.split("/", 1)[1]: [g.role, g.output_axes, g.input_axes] for g in oracle.groups}
    return {"groups": groups, "symmetry": [u.dot(along_v), v.dot(along_u)]}


def roles() -> dict[str, list[Any]]:
    """Role, axes, channel groups, divided side and owner of every variable of many layers."""
    image = keras.Input((8, 8, 4))
    tokens = keras.Input((6,), dtype="int32")
    y = layers.Conv2D(6, 3, groups=2, name="grouped")(image)
    y = layers.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise")(y)
    y = layers.SeparableConv2D(5, 2, name="separable")(y)
    y = layers.Conv2DTranspose(3, 2, name="transposed")(y)
    y = layers.GroupNormalization(1, name="norm")(y)
    z = layers.LSTM(2, name="recurrent")(layers.Embedding(7, 3, name="table")(tokens))
    y = layers.Concatenate()([layers.GlobalAveragePooling2D()(y), z])
    model = keras.Model([image, tokens], layers.Dense(3, name="dense")(y))
    return {
        g.name: [g.role, g.output_axes, g.input_axes, g.channel_groups, g.divided_axes, g.owner]
        for g in parameter_groups(model, model.trainable_variables)
    }


def given_groups() -> list[str]:
    """Roles that a user gives; the error for a name that is not there."""
    model, data = perceptron(), (inputs(), labels())
    given = ish.ParameterGroup("perceptron/last/kernel", (6, 3))
    oracle = backend.oracle(model, data, loss="cross_entropy", groups=[given])
    try:
        backend.oracle(model, data, loss="cross_entropy", groups=[ish.ParameterGroup("other", (6, 3))])
    except ish.InvariantSharpnessError as error:
        return [oracle.groups[4].role, f"{type(error).__name__}: {error}"]
    return [oracle.groups[4].role, "nothing was raised"]


def frozen() -> list[str]:
    """Names of the groups where a layer is frozen."""
    model = perceptron()
    model.layers[1].trainable = False
    oracle = backend.oracle(model, (inputs(), labels()), loss="cross_entropy")
    ish.hessian_trace(oracle)
    return [group.name.split("/", 1)[1] for group in oracle.groups]


class Whole(keras.Model):
    """A model with weights of its own, in two layouts."""

    def __init__(self) -> None:
        super().__init__(name="whole")
        self.first = self.add_weight(shape=(4, 5), name="first")
        self.second = self.add_weight(shape=(4, 3), name="second")

    def call(self, x: Any) -> Any:
        return keras.ops.relu(x @ keras.ops.transpose(self.first)) @ self.second


def own_weights() -> dict[str, list[Any]]:
    """Roles and axes of weights that are not of Keras' layers."""
    model = Whole()
    model(inputs())
    oracle = backend.oracle(model, (inputs(), labels()), loss="cross_entropy")
    return {g.name.split("/")[-1]: [g.role, g.output_axes, g.input_axes] for g in oracle.groups}


CHECKS = [own_weights, attention, roles, given_groups, frozen]
