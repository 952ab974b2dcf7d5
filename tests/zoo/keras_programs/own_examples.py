"""What every sum over examples assumes, on models and losses of users: outputs, losses and derivatives of each example are its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from bad_input import failure
from joint_losses import JOINT, of_rows
from keras import layers, ops
from keras_problems import inputs, labels

from invariant_sharpness_keras import backend

WIDTH = 4


class Between(layers.Layer):
    """A function of the activations of a layer."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def call(self, x: Any) -> Any:
        return self.function(x)


def network(function: Callable[[Any], Any] = ops.tanh) -> keras.Model:
    model = keras.Sequential([keras.Input((5,)), layers.Dense(WIDTH), Between(function), layers.Dense(3)])
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    return model


def joint_losses() -> dict[str, str]:
    """Messages for callable losses that look at other examples."""
    data = inputs(), np.arange(11.0) % 3
    return {
        name: failure(network(), [(data[0][:10], data[1][:10])], of_rows(loss, ops)) for name, loss in JOINT.items()
    }


def own_losses() -> dict[str, float]:
    """The loss of a callable, in batches of several sizes, and one whose targets are several."""

    def quartic(o: Any, t: Any) -> Any:
        return (o[:, 0] - ops.cast(t, o.dtype)) ** 4 + ops.sum(o**2, axis=1)

    def of_several(o: Any, t: Any) -> Any:
        return quartic(o, t[0]) * t[1]

    y, model = np.arange(11.0) % 3, network()
    oracles = {str(size): backend.oracle(model, (inputs(), y), loss=quartic, batch_size=size) for size in (1, 5, 11)}
    oracles["several targets"] = backend.oracle(model, [(inputs(), (y, np.ones(11)))], loss=of_several)
    return {what: oracle.loss(oracle.parameters) for what, oracle in oracles.items()}


def diagonal_under_several_targets() -> list[float]:
    """The exact diagonal of the last layer under a loss with two targets, and under the same loss with one."""
    y, model = np.arange(11.0) % 3, network()
    one = backend.oracle(model, (inputs(), y), loss=lambda o, t: o[:, 0] ** 2 * ops.cast(t, o.dtype))
    two = backend.oracle(model, [(inputs(), (y, y))], loss=lambda o, t: o[:, 0] ** 2 * ops.cast(t[1], o.dtype))
    name = frozenset({one.groups[2].name})
    return [
        float(np.sum(oracle.to_numpy(oracle.gauss_newton_diagonal(oracle.parameters, name))[group]))
        for oracle in (two, one)
        for group in name
    ]


@ops.custom_gradient
def reversed_gradient(x: Any) -> Any:
    """The identity, with the derivative of its negative."""

    def gradient(*cotangents: Any, upstream: Any = None) -> Any:
        cotangent = cotangents[0] if upstream is None else upstream
        return -cotangent

    return x, gradient


@ops.custom_gradient
def right_gradient(x: Any) -> Any:
    """Twice as much, with its derivative."""

    def gradient(*cotangents: Any, upstream: Any = None) -> Any:
        cotangent = cotangents[0] if upstream is None else upstream
        return 2.0 * cotangent

    return 2.0 * x, gradient


DECEIVING: dict[str, Callable[[Any], Any]] = {
    "gradient reversal": lambda x: reversed_gradient(ops.tanh(x)),
    "straight through": lambda x: x + ops.stop_gradient(ops.round(4 * x) / 4 - x),
    "cut off in part": lambda x: ops.tanh(x) * ops.stop_gradient(x),
    "cut off": lambda x: ops.stop_gradient(ops.tanh(x)),
}
INNOCENT: dict[str, Callable[[Any], Any]] = {
    "silu": ops.silu,
    "relu": ops.relu,
    "softmax": ops.softmax,
    "log of a sum": lambda x: x - ops.logsumexp(x, axis=1, keepdims=True),
    "a derivative of its own": lambda x: ops.tanh(right_gradient(x)),
    "shifted by a constant": lambda x: x - ops.stop_gradient(ops.max(ops.zeros_like(x), axis=1, keepdims=True)),
}


def derivatives() -> dict[str, str]:
    """Messages for models whose derivatives are not, and are, those of their outputs."""
    return {
        what: failure(network(function), (inputs(), labels()), "cross_entropy")
        for what, function in {**DECEIVING, **INNOCENT}.items()
    }


def mixtures() -> dict[str, str]:
    """Messages for models whose examples are mixed; of one example, nothing is mixed."""
    centered = network(lambda x: x - ops.mean(x, axis=0, keepdims=True))
    last = network(lambda x: x - x[-1:])
    return {
        "centered": failure(centered, (inputs(), labels()), "cross_entropy"),
        "against the last": failure(last, (inputs(), labels()), "cross_entropy"),
        "neighbors": failure(network(lambda x: x + ops.roll(x, 1, axis=0)), (inputs(), labels()), "cross_entropy"),
        "one example": failure(centered, (inputs()[:1], labels(1)), "cross_entropy"),
    }


CHECKS = [joint_losses, own_losses, diagonal_under_several_targets, derivatives, mixtures]
