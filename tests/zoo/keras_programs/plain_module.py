"""A plain module of TensorFlow, and diagonals in single precision, which Keras' other engines always have."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from conformance import outcome
from keras_problems import inputs, labels, relu_network, same, state
from layer_squares import diagonal_in_single_precision
from products import errors_of_products

import invariant_sharpness as ish
from invariant_sharpness_keras import backend


class Module(tf.Module):
    """The network of the reference as a plain module, which Keras knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        network = relu_network()
        weights = zip(network.weights, network.biases or (), strict=True)
        self.layers = [(tf.Variable(W.T, name="w"), tf.Variable(b, name="b")) for W, b in weights]

    def __call__(self, x: Any) -> Any:
        *hidden, (last, shift) = self.layers
        for w, b in hidden:
            x = tf.nn.relu(x @ w + b)
        return x @ last + shift


def plain_module() -> dict[str, Any]:
    """Metrics of a module, and of the reference; its products, and its checks; and whether it is what it was."""
    module, data = Module(), (inputs(), labels())
    before = state(module)
    names = ["hessian_spectral_norm", "normalized_sharpness", "fisher_rao_norm"]
    oracle = backend.oracle(module, data, loss="cross_entropy", batch_size=4)
    mine, reference = ish.measure(oracle, names), ish.measure(ish.oracle(relu_network(), data), names)
    return {
        "metrics": {name: [mine[name].value, reference[name].value] for name in names},
        "products": errors_of_products(oracle),
        "checks": outcome(oracle),
        "untouched": same(before, state(module)),
        "after an error": _after_an_error(module),
    }


def _after_an_error(module: Module) -> bool:
    """A module that is interrupted within a pass, when its variables hold other values."""
    oracle = backend.oracle(module, (inputs(), labels()), loss="cross_entropy")
    before = state(module)
    oracle.engine.graphs.loss_gradient = _interrupted
    try:
        oracle.gradient(2.0 * oracle.parameters)
    except KeyboardInterrupt:
        return same(before, state(module))
    return False


def _interrupted(*_: Any) -> Any:
    raise KeyboardInterrupt


CHECKS = [plain_module, diagonal_in_single_precision]
