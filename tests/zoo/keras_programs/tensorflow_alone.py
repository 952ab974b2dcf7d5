"""What only TensorFlow has: its own data sets, and operations with a wrong second derivative."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock, patch

import keras
import numpy as np
import tensorflow as tf
from bad_input import failure
from keras import layers
from keras_problems import inputs, labels, perceptron

import invariant_sharpness as ish
from invariant_sharpness.adapters.data import take
from invariant_sharpness_keras import backend, tensorflow_squares
from invariant_sharpness_keras.tensorflow_forms import FLAT


def data_sets() -> dict[str, Any]:
    """One loss from a data set, shuffled or not; the errors of one that never ends, and of rows that come shuffled."""
    data = tf.data.Dataset.from_tensor_slices((inputs(), labels())).batch(4)
    forms = {"arrays": (inputs(), labels()), "plain": data, "shuffled": data.shuffle(3)}
    oracles = {kind: backend.oracle(perceptron(), form, loss="cross_entropy") for kind, form in forms.items()}
    oracles["first of an endless one"] = backend.oracle(
        perceptron(), data.repeat(), loss="cross_entropy", max_examples=len(inputs())
    )
    losses = {kind: oracle.loss(oracle.parameters) for kind, oracle in oracles.items()}
    return {
        "losses": losses,
        "endless": failure(perceptron(), data.repeat(), "cross_entropy"),
        "shuffled rows": _rows_of_several_passes(oracles["shuffled"]),
    }


def _rows_of_several_passes(oracle: Any) -> str:
    """Three batches come in one order on eight passes with a chance of 1 to 280,000."""
    try:
        for _ in range(8):
            oracle.outputs(oracle.parameters, 11)
    except ish.InvariantSharpnessError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


class GroupedConvolution(tf.Module):
    """Two groups of channels, by TensorFlow's own operation; the layers of Keras are compiled by XLA."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(inputs(2, 2, 1, 4), name="kernel")

    def __call__(self, x: Any) -> Any:
        return tf.reduce_mean(tf.nn.convolution(x, self.kernel), axis=(1, 2))


def grouped_convolution() -> str:
    """On the host, TensorFlow has no gradient of it: an error, and no wrong number."""
    return failure(GroupedConvolution(), (inputs(3, 4, 4, 2), labels(3)), "cross_entropy")


def resizing_network(resize: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((4, 4, 2))
    y = resize(layers.Conv2D(3, 2, activation="tanh")(x))
    y = layers.Conv2D(4, 2, activation="tanh")(y)
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(y)))


def bilinear_upsampling() -> dict[str, Any]:
    """TensorFlow's own tapes on a bilinear layer: v H u and u H v; and what the builder says."""
    model = resizing_network(layers.UpSampling2D(2, interpolation="bilinear"))
    u, v = ([tf.constant(inputs(*w.shape) + k) for w in model.trainable_variables] for k in (0, 1))

    def product(direction: Any) -> Any:
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                total = tf.reduce_sum(model(tf.constant(inputs(3, 4, 4, 2)))[:, 0])
            slopes = inner.gradient(total, [w.value for w in model.trainable_variables], unconnected_gradients="zero")
            along = tf.add_n([tf.reduce_sum(g * d) for g, d in zip(slopes, direction, strict=True)])
        return outer.gradient(along, [w.value for w in model.trainable_variables], unconnected_gradients="zero")

    sides = [
        float(sum(np.sum(a.numpy() * b.numpy()) for a, b in zip(left, product(right), strict=True)))
        for left, right in ((u, v), (v, u))
    ]
    data = (inputs(3, 4, 4, 2), labels(3))
    hidden = resizing_network(layers.Resizing(6, 6))
    nearest = resizing_network(layers.UpSampling2D(2))
    return {
        "symmetry": sides,
        "layer": failure(model, data, "cross_entropy"),
        "operation": failure(hidden, data, "cross_entropy"),
        "nearest": failure(nearest, data, "cross_entropy"),
    }


class Mixed(tf.Module):
    """Weights with the outputs first, and last, in a module that Keras knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(4)
        self.a, self.b, self.c = (tf.Variable(random.normal(size=shape)) for shape in [(5, 2), (4, 5, 3, 3), (4, 3)])

    def __call__(self, x: Any) -> Any:
        images = tf.nn.relu(tf.tensordot(x, self.a, [[3], [1]]))
        convolved = tf.nn.conv2d(images, tf.transpose(self.b, (2, 3, 1, 0)), 1, "SAME")
        return tf.reduce_mean(tf.nn.relu(convolved), axis=(1, 2)) @ self.c


def roles_of_a_module() -> list[list[Any]]:
    """Roles and axes of the variables of a plain module."""
    oracle = backend.oracle(Mixed(), (inputs(6, 4, 4, 2), labels(6)), loss="cross_entropy")
    return [[group.role, group.output_axes, group.input_axes] for group in oracle.groups]


def flat_inputs() -> dict[str, float]:
    """The largest derivative of each operation in the inputs in which it is taken for flat."""
    x, g, images = (tf.constant(inputs(*shape)) for shape in [(3, 4), (3, 4), (2, 4, 4, 3)])
    pooled, window = tf.nn.max_pool2d(images, 2, 2, "VALID"), {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1]}
    given: dict[str, list[Any]] = {
        **{name: [g, x] for name in ("LeakyReluGrad", "Relu6Grad", "ReluGrad")},
        "MaxPoolGrad": [images, pooled, pooled + 1.0],
    }
    names = {
        "LeakyReluGrad": ("gradients", "features"),
        "Relu6Grad": ("gradients", "features"),
        "ReluGrad": ("gradients", "features"),
        "MaxPoolGrad": ("orig_input", "orig_output", "grad"),
        "StopGradient": ("input",),
    }
    largest: dict[str, float] = {}
    for name, flat in FLAT.items():
        arguments = given.get(name, [x])
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            named = dict(zip(names.get(name, ("x",)), arguments, strict=True))
            options = {**window, "padding": "VALID"} if name == "MaxPoolGrad" else {}
            result = getattr(tf.raw_ops, name)(**named, **options)
            total = tf.reduce_sum(result * tf.constant(inputs(*result.shape)))
        found = tape.gradient(total, [arguments[number] for number in flat], unconnected_gradients="zero")
        largest[name] = max(float(tf.reduce_max(tf.abs(slope))) for slope in found)
    return largest


class Tied(keras.Model):
    """One layer twice, between two others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.last = layers.Dense(4), layers.Dense(4), layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.last(tf.nn.relu(self.twice(tf.nn.relu(self.twice(tf.nn.relu(self.first(x)))))))


class Branching(keras.Model):
    """GELU where a sequence has three positions, ReLU elsewhere: a choice of Python."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = layers.Dense(4), layers.Dense(3)

    def call(self, x: Any) -> Any:
        activation = keras.activations.gelu if x.shape[1] == 3 else keras.activations.relu
        return keras.ops.mean(self.last(activation(self.first(x))), axis=1)


def sequences_of_several_lengths() -> dict[str, Any]:
    """The loss beside that of the model's own calls, batch by batch, and the variables that are curved by their form."""
    model = Branching()
    batches = [(inputs(4, length, 5), labels(4)) for length in (2, 3, 4)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = [float(loss(y, model(x))) for x, y in batches]
    oracle = backend.oracle(model, batches, loss=loss)
    curved = oracle.output_form(oracle.parameters).curved
    return {"losses": [oracle.loss(oracle.parameters), float(np.mean(expected))], "curved": sorted(curved)}


def pooled_network(activation: str) -> keras.Model:
    x = keras.Input((6, 6, 2))
    y = layers.MaxPooling2D(2)(layers.Conv2D(3, 2, padding="same", activation=activation)(x))
    y = layers.MaxPooling2D(2, padding="same")(layers.LeakyReLU()(layers.Conv2D(4, 2)(y)))
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(y)))


def forms() -> dict[str, Any]:
    """Which parameters may be curved by the form of the gradient, and which have a block that is not zero, all blocks computed."""
    networks = {"relu": pooled_network("relu"), "tanh": pooled_network("tanh"), "tied": Tied()}
    found = {}
    for name, model in networks.items():
        x = inputs(5, 4) if name == "tied" else inputs(5, 6, 6, 2)
        model(x)
        oracle = backend.oracle(model, (x, labels(5)), loss="cross_entropy")
        graphs, values = oracle.engine.graphs, [tf.constant(v) for v in model.trainable_variables]
        curved = []
        for number, group in enumerate(oracle.groups):
            along = [tf.cos(v + 1.0) if place == number else tf.zeros_like(v) for place, v in enumerate(values)]
            block = graphs.output_products(values, along, tf.constant(x), tf.constant(inputs(5, 3)))[number]
            curved += [group.name] if float(tf.reduce_max(tf.abs(block))) > 0 else []
        form = oracle.output_form(oracle.parameters)
        found[name] = {"form": sorted(form.curved), "unknown": sorted(form.unknown), "curved": sorted(curved)}
    return found


def tests_of_a_piecewise_linear_network() -> dict[str, Any]:
    """How often examples are differentiated for the certificate, and the methods of all variables."""
    oracle = backend.oracle(pooled_network("relu"), (inputs(5, 6, 6, 2), labels(5)), loss="cross_entropy")
    with patch.object(oracle, "block_curvature", MagicMock(side_effect=oracle.block_curvature)) as tested:
        found = ish.hessian_diagonal(oracle)
    return {"tests": tested.call_count, "methods": sorted({group.method for group in found.groups.values()})}


def pieces_of_a_batch() -> dict[str, Any]:
    """Where a batch is cut whose patches take 21 MB, and the relative difference that this makes."""
    convolution = layers.Conv2D(4, 3, padding="same")
    network = keras.Sequential([keras.Input((24, 24, 8)), convolution, layers.GlobalAveragePooling2D()])
    oracle = backend.oracle(network, (inputs(64, 24, 24, 8), labels(64)), loss="cross_entropy")
    names = frozenset(group.name for group in oracle.groups)
    oracle.gauss_newton_diagonal(oracle.parameters, names)  # tests the layers on a few examples
    with patch.object(tensorflow_squares, "take", MagicMock(side_effect=take)) as cut:
        pieces = oracle.gauss_newton_diagonal(oracle.parameters, names)
    with patch.object(tensorflow_squares, "_CACHED", 2**40):
        whole = oracle.gauss_newton_diagonal(oracle.parameters, names)
    return {
        "pieces": [call.args[1:] for call in cut.call_args_list],
        "difference": max(float(np.abs(pieces[name] / whole[name] - 1).max()) for name in names),
    }


CHECKS = [
    pieces_of_a_batch,
    flat_inputs,
    forms,
    tests_of_a_piecewise_linear_network,
    sequences_of_several_lengths,
    roles_of_a_module,
    data_sets,
    grouped_convolution,
    bilinear_upsampling,
]
