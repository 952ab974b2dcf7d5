"""Layers of a user's own: what their weights are used as, and sharpness beside that of the same network made of Keras' layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops
from keras_problems import labels

import invariant_sharpness as ish
from invariant_sharpness_keras import backend

EXAMPLES, WIDTH = 11, 4
COMPARED = (
    "outputs first",
    "outputs first, by positions",
    "convolution, outputs first",
    "grouped convolution",
    "transposed convolution",
)
"""With twins, whose layers have the weight in another order."""


class Own(layers.Layer):
    """A weight of a shape, a bias for each output, and a function of the inputs and the weight."""

    def __init__(self, shape: tuple[int, ...], function: Callable[[Any, Any], Any], outputs: int = 1) -> None:
        super().__init__(name="own")
        self.shape, self.function, self.outputs = shape, function, outputs

    def build(self, _: Any) -> None:
        self.weight = self.add_weight(shape=self.shape, name="weight")
        self.bias = self.add_weight(shape=(self.outputs,), name="bias")

    def call(self, x: Any) -> Any:
        return self.function(x, self.weight) + self.bias


class Turned(layers.Dense):
    """A dense layer of Keras with a kernel of its own: the outputs are first."""

    def build(self, shape: Any) -> None:
        self.weight = self.add_weight(shape=(self.units, shape[-1]), name="kernel")
        self.bias = self.add_weight(shape=(self.units,), name="bias")

    def call(self, x: Any, training: Any = None) -> Any:
        del training
        return x @ ops.transpose(self.weight) + self.bias


class Cell(layers.Layer):
    """A recurrent cell with the outputs first."""

    state_size = output_size = WIDTH

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(WIDTH, shape[-1]), name="kernel")
        self.recurrent = self.add_weight(shape=(WIDTH, WIDTH), name="recurrent")

    def call(self, x: Any, states: Any) -> Any:
        state = ops.relu(x @ ops.transpose(self.kernel) + states[0] @ ops.transpose(self.recurrent))
        return state, [state]


def correlated(x: Any, kernel: Any) -> Any:
    """Of a kernel (outputs, inputs, height, width)."""
    return ops.conv(x, ops.transpose(kernel, (2, 3, 1, 0)))


class Kind(NamedTuple):
    """Shapes of an input and of a weight, what is made of both, and how to turn the weight for which layer of Keras."""

    inputs: tuple[int, ...]
    weight: tuple[int, ...]
    function: Callable[[Any, Any], Any]
    order: tuple[int, ...] = ()
    layer: Callable[[], Any] = lambda: layers.Dense(WIDTH)


KINDS = {
    "inputs first": Kind((5,), (5, WIDTH), ops.matmul, (0, 1)),
    "outputs first": Kind((5,), (WIDTH, 5), lambda x, w: x @ ops.transpose(w), (1, 0)),
    "outputs first, on columns": Kind((5,), (WIDTH, 5), lambda x, w: ops.transpose(w @ ops.transpose(x)), (1, 0)),
    "outputs first, by letters": Kind((5,), (WIDTH, 5), lambda x, w: ops.einsum("ni,oi->no", x, w), (1, 0)),
    "outputs first, by positions": Kind((3, 5), (WIDTH, 5), lambda x, w: ops.tensordot(x, w, [[2], [1]]), (1, 0)),
    "one output": Kind((5,), (1, 5), lambda x, w: x @ ops.transpose(w), (1, 0), lambda: layers.Dense(1)),
    "one input": Kind((1,), (WIDTH, 1), lambda x, w: x @ ops.transpose(w), (1, 0)),
    "convolution": Kind((6, 6, 2), (3, 3, 2, WIDTH), ops.conv, (0, 1, 2, 3), lambda: layers.Conv2D(WIDTH, 3)),
    "convolution, outputs first": Kind(
        (6, 6, 2), (WIDTH, 2, 3, 3), correlated, (2, 3, 1, 0), lambda: layers.Conv2D(WIDTH, 3)
    ),
    "convolution, inputs first": Kind(
        (6, 6, 2),
        (2, 3, 3, WIDTH),
        lambda x, w: ops.conv(x, ops.transpose(w, (1, 2, 0, 3))),
        (1, 2, 0, 3),
        lambda: layers.Conv2D(WIDTH, 3),
    ),
    "convolution of lines": Kind(
        (6, 2),
        (WIDTH, 3, 2),
        lambda x, w: ops.conv(x, ops.transpose(w, (1, 2, 0))),
        (1, 2, 0),
        lambda: layers.Conv1D(WIDTH, 3),
    ),
    "grouped convolution": Kind(
        (6, 6, 4), (3, 3, 2, WIDTH), ops.conv, (0, 1, 2, 3), lambda: layers.Conv2D(WIDTH, 3, groups=2)
    ),
    "transposed convolution": Kind(
        (6, 6, 2),
        (3, 3, WIDTH, 2),
        lambda x, w: ops.conv_transpose(x, w, 1),
        (0, 1, 2, 3),
        lambda: layers.Conv2DTranspose(WIDTH, 3),
    ),
    "depthwise convolution": Kind(
        (6, 6, 2),
        (3, 3, 2, 2),
        ops.depthwise_conv,
        (0, 1, 2, 3),
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
    ),
    "table": Kind((3,), (WIDTH, 6), lambda x, w: ops.take(w, ops.cast(ops.abs(x), "int32"), axis=0)),
    "experts": Kind((5,), (3, 5, 2), lambda x, w: ops.sum(ops.einsum("ni,kio->nko", x, w), axis=1)),
    "normalized": Kind((5,), (WIDTH, 5), lambda x, w: x @ ops.transpose(w / ops.norm(w))),
    "multiplied with itself": Kind((5,), (WIDTH, 5), lambda x, w: x @ ops.transpose(w) @ (w @ ops.transpose(w))),
    "table and weight": Kind((5,), (5, 5), lambda x, w: x @ w + ops.take(w, ops.cast(ops.abs(x[:, 0]), "int32"), 0)),
}


def network(layer: Any, shape: tuple[int, ...]) -> keras.Model:
    return keras.Sequential([keras.Input(shape), layer, layers.ReLU(), layers.Flatten(), layers.Dense(3, name="last")])


def oracle_of(model: Any, shape: tuple[int, ...]) -> Any:
    x = np.random.default_rng(0).normal(size=(EXAMPLES, *shape))
    return backend.oracle(model, (x, labels()), loss="cross_entropy")


def roles_by_use() -> dict[str, Any]:
    """Role, axes and channel groups of the weight of each layer, and the weight that the bias belongs to."""
    return {kind: _described(_own(kind)) for kind in KINDS}


def own_layers_and_twins() -> dict[str, list[float]]:
    """(17) with biases as columns of networks with own layers, and of their twins made of Keras' layers."""
    found = {}
    for kind in COMPARED:
        shape, _, _, order, layer = KINDS[kind]
        own, twin = _own(kind), network(layer(), shape)
        weight, *others = own.get_weights()
        twin.set_weights([np.transpose(weight, order), *others])
        found[kind] = [
            ish.normalized_sharpness(oracle_of(model, shape), biases="column").value for model in (own, twin)
        ]
    return found


def _own(kind: str) -> keras.Model:
    """The network with random weights, and as many entries of the bias as the layer has channels."""
    shape, weight, function, *_ = KINDS[kind]
    channels = Own(weight, function)(np.zeros((1, *shape), dtype=keras.config.floatx())).shape[-1]
    model = network(Own(weight, function, channels), shape)
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=w.shape) / 2 for w in model.get_weights()])
    return model


def _described(model: keras.Model) -> list[Any]:
    group, bias, *_ = oracle_of(model, model.input_shape[1:]).groups
    return [group.role, group.output_axes, group.input_axes, group.channel_groups, bias.owner == group.name]


def weights_of_other_owners() -> dict[str, list[Any]]:
    """Roles and axes in a subclass of a layer of Keras, in a recurrent cell, and of what is no weight."""
    kinds = {
        "subclass": (Turned(WIDTH), (5,)),
        "cell": (layers.RNN(Cell()), (3, 5)),
        "slopes": (layers.PReLU(), (3, 5)),
        "cell of Keras": (layers.SimpleRNN(WIDTH), (3, 5)),
    }
    found = {}
    for what, (layer, shape) in kinds.items():
        *groups, _, _ = oracle_of(network(layer, shape), shape).groups
        weights = [group for group in groups if len(group.shape) > 1]
        found[what] = [[group.role, group.output_axes, group.input_axes] for group in weights]
    return found


def left_out() -> list[str]:
    """The notes of (17) where the axes of a weight cannot be told."""
    model = _own("normalized")
    return list(ish.normalized_sharpness(oracle_of(model, (5,))).notes)


CHECKS = [roles_by_use, own_layers_and_twins, weights_of_other_owners, left_out]
