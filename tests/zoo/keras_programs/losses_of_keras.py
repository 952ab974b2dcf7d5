"""Losses of Keras with their options, sample weights and one-hot targets, against Keras' own values of all data in one batch."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, losses, ops
from keras_problems import DOUBLE
from sure_losses import BINARY_LABELS, BINARY_LOGITS, LOGITS

import invariant_sharpness as ish
from invariant_sharpness.adapters.data import map_leaves
from invariant_sharpness_keras import backend
from invariant_sharpness_keras.batch import host_batch
from invariant_sharpness_keras.losses import resolve_loss
from invariant_sharpness_keras.output_losses import values_and_weights

EXAMPLES, CLASSES = 7, 3
RANDOM = np.random.default_rng(0)
X, NUMBERS = RANDOM.normal(size=(EXAMPLES, 4)), RANDOM.normal(size=(EXAMPLES, CLASSES))
LABELS, MASSES = np.arange(EXAMPLES) % CLASSES, RANDOM.dirichlet(np.ones(CLASSES), size=EXAMPLES)
ONE_HOT, WEIGHTS = np.eye(CLASSES)[LABELS], RANDOM.random(EXAMPLES) * 2
VOID = np.where(np.arange(EXAMPLES) == 4, 255, LABELS)


def model(activation: str | None = None) -> keras.Model:
    network = keras.Sequential([keras.Input((4,)), layers.Dense(CLASSES, activation=activation)])
    network.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in network.get_weights()])
    return network


def targets_first(y_true: Any, y_pred: Any) -> Any:
    return ops.mean((y_pred - ops.cast(y_true, y_pred.dtype)) ** 4, axis=-1)


class Quartic(losses.MeanSquaredError):
    """A subclass with a loss of its own."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return targets_first(y_true, y_pred)


def cases() -> dict[str, tuple[Any, Any, Any, str | None]]:
    """The loss as it is passed, Keras' loss of the same values, targets, and the last activation."""
    sparse, dense, binary = (
        losses.SparseCategoricalCrossentropy,
        losses.CategoricalCrossentropy,
        losses.BinaryCrossentropy,
    )
    return {
        "sparse": (sparse(from_logits=True), None, LABELS, None),
        "sparse, ignoring": (sparse(from_logits=True, ignore_class=255), None, VOID, None),
        "sparse of probabilities": ("sparse_categorical_crossentropy", sparse(), LABELS, "softmax"),
        "categorical": (dense(from_logits=True, label_smoothing=0.2), None, MASSES, None),
        "categorical, summed": (dense(from_logits=True, reduction="sum"), None, ONE_HOT, None),
        "categorical of probabilities": (losses.categorical_crossentropy, dense(), ONE_HOT, "softmax"),
        "by the library's name": ("cross_entropy", dense(from_logits=True), ONE_HOT, None),
        "binary": (binary(from_logits=True, label_smoothing=0.1), None, MASSES, None),
        "binary of a partial function": (
            partial(losses.binary_crossentropy, from_logits=True), binary(from_logits=True), MASSES, None,
        ),
        "binary of probabilities": ("binary_crossentropy", binary(), MASSES, "sigmoid"),
        "squared": ("mean_squared_error", losses.MeanSquaredError(), NUMBERS, None),
        "squared, summed": (losses.MeanSquaredError(reduction="sum"), None, NUMBERS, None),
        "huber": (losses.Huber(delta=0.5), None, NUMBERS, None),
        "huber of a partial function": (partial(losses.huber, delta=0.5), losses.Huber(delta=0.5), NUMBERS, None),
        "logarithm of cosh": ("log_cosh", losses.LogCosh(), NUMBERS, None),
        "poisson": (losses.Poisson(), None, MASSES, "exponential"),
        "targets first": (targets_first, Quartic(), NUMBERS, None),
        "subclass": (Quartic(), None, NUMBERS, None),
    }  # fmt: skip


def values_of_losses() -> dict[str, list[float]]:
    """The loss, with and without sample weights, and Keras' own."""
    found = {}
    for what, (loss, reference, targets, activation) in cases().items():
        network, resolved = model(activation), resolve_loss(loss)
        outputs, keras_loss = network(ops.convert_to_tensor(X, dtype=network.dtype)), reference or loss
        for name, weights in (("", None), (", weighted", WEIGHTS)):
            batch = host_batch(
                (X, targets) if weights is None else (X, targets, weights), np.dtype("float64" if DOUBLE else "float32")
            )
            given = map_leaves(ops.convert_to_tensor, batch.targets)
            losses, divisors = values_and_weights(resolved, outputs, given)
            total, divisor = (float(ops.convert_to_numpy(ops.sum(part))) for part in (losses * divisors, divisors))
            expected = float(ops.convert_to_numpy(keras_loss(targets, outputs, sample_weight=weights)))
            found[what + name] = [total if resolved.reduction == "sum" else total / divisor, expected]
    return found


def refused_losses() -> dict[str, str]:
    """Messages, and what following them gives."""
    sparse = losses.SparseCategoricalCrossentropy
    tried = {
        "logits as probabilities": (model(), (X, LABELS), sparse()),
        "probabilities as logits": (model("softmax"), (X, LABELS), sparse(from_logits=True)),
        "divided by weights": (model(), (X, NUMBERS), losses.MeanSquaredError(reduction="mean_with_sample_weight")),
        "negative weights": (model(), (X, LABELS, -WEIGHTS), "cross_entropy"),
        "weights of another shape": (model(), (X, LABELS, np.ones((EXAMPLES, 2))), "cross_entropy"),
    }
    return {what: _failure(*case) for what, case in tried.items()}


def _failure(*case: Any) -> str:
    network, data, loss = case
    try:
        backend.oracle(network, data, loss=loss)
    except ish.InvariantSharpnessError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def sure_networks() -> dict[str, dict[str, list[Any]]]:
    """By loss and precision, the gradient at logits of which a network is sure, and the products with all unit vectors."""
    targets = {"cross_entropy": np.array([1]), "binary_cross_entropy": np.array([BINARY_LABELS], dtype=float)}
    logits = {"cross_entropy": np.roll(LOGITS, 1), "binary_cross_entropy": BINARY_LOGITS}
    return {
        f"{loss} {dtype}": _gradient_and_products(np.array(logits[loss], dtype), targets[loss], loss)
        for loss in targets
        for dtype in (("float64", "float32") if DOUBLE else ("float32",))
    }


def _gradient_and_products(z: Any, targets: Any, loss: str) -> dict[str, list[Any]]:
    """Of a layer whose outputs on the input 1 are its weights."""
    network = keras.Sequential([keras.Input((1,)), layers.Dense(4, use_bias=False, dtype=str(z.dtype))])
    network.set_weights([z[None]])
    oracle = backend.oracle(network, (np.ones((1, 1), z.dtype), targets), loss=loss)
    (name,), point = oracle.to_numpy(oracle.parameters), oracle.parameters
    units = [oracle.from_numpy({name: unit[None]}) for unit in np.eye(4)]
    products = (oracle.hessian_vector_product, oracle.gauss_newton_vector_product)
    return {
        "gradient": oracle.to_numpy(oracle.gradient(point))[name][0].tolist(),
        "matrices": [[oracle.to_numpy(of(point, unit))[name][0].tolist() for unit in units] for of in products],
    }


CHECKS = [values_of_losses, refused_losses, sure_networks]
