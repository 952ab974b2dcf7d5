"""What every sum over examples assumes, on models and losses of users: outputs, losses and derivatives of each example are its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from bad_input import failure
from joint_losses import JOINT, of_rows
from keras import layers, ops
from keras_problems import inputs, labels

import invariant_sharpness as ish
from invariant_sharpness_keras import backend

WIDTH, MANY = 4, 50.0


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
    """Messages for callable losses that look at other examples' outputs, at their targets, and that cannot take fewer of them."""
    model, data = network(), [(inputs(10, 5), np.arange(10.0) % 3)]
    return {name: failure(model, data, of_rows(JOINT[name], ops)) for name in ("contrastive", "balanced", "paired")}


def own_losses() -> dict[str, float]:
    """The loss of a callable, in batches of several sizes, and one whose targets are several."""

    def quartic(o: Any, t: Any) -> Any:
        return (o[:, 0] - ops.cast(t, o.dtype)) ** 4 + ops.sum(o**2, axis=1)

    def of_several(o: Any, t: Any) -> Any:
        return quartic(o, t[0]) * t[1]

    y, model = np.arange(11.0) % 3, network()
    oracles = {str(size): backend.oracle(model, (inputs(), y), loss=quartic, batch_size=size) for size in (5, 11)}
    oracles["several targets"] = backend.oracle(model, [(inputs(), (y, np.ones(11)))], loss=of_several)
    return {what: oracle.loss(oracle.parameters) for what, oracle in oracles.items()}


COUNTING: dict[str, Callable[[Any, Any], Any]] = {
    "of the outputs, or one": lambda o, _: o.shape[0] or 1,
    "of the targets": lambda _, t: len(t),
    "of the outputs": lambda o, _: len(o),
    "if there are some": lambda o, _: o.shape[0] if o.shape[0] is not None and o.shape[0] > 1 else 1,
}


def losses_that_count_rows() -> dict[str, list[float]]:
    """Loss, trace, spectral norm and (17) under losses times the number of rows that they see, over that number; by itself under "plain".

    The first model keeps the number of rows, the second is one whose graph has lost it.
    """
    y, found = np.arange(11.0) % 3, {}
    for place, function in (("", ops.tanh), (", lost", lambda x: ops.tanh(x)[: ops.shape(x)[0]])):
        for what, rows in {"plain": lambda o, _: ops.shape(o)[0], **COUNTING}.items():
            loss = partial(_counted, rows)
            data = [(inputs()[part], y[part]) for part in (slice(3), slice(3, 7), slice(7, 11))]
            oracle = backend.oracle(network(function), data, loss=loss)
            metrics = (ish.hessian_trace, ish.hessian_spectral_norm, ish.normalized_sharpness)
            found[what + place] = [oracle.loss(oracle.parameters), *(metric(oracle).value for metric in metrics)]
    return found


def _counted(rows: Callable[[Any, Any], Any], o: Any, t: Any) -> Any:
    """One row alone has to have the loss that it has among others."""
    own = (o[:, 0] - ops.cast(t, o.dtype)) ** 4 + ops.sum(o**2, axis=1)
    return own * (ops.cast(rows(o, t), o.dtype) / ops.cast(ops.shape(o)[0], o.dtype))


def diagonal_under_several_targets() -> list[float]:
    """The exact diagonal of the last layer under a loss with two targets, and under the same loss with one."""
    y, model = np.arange(11.0) % 3, network()
    one = backend.oracle(model, (inputs(), y), loss=lambda o, t: o[:, 0] ** 2 * ops.cast(t, o.dtype))
    two = backend.oracle(model, (inputs(), (y, y)), loss=lambda o, t: o[:, 0] ** 2 * ops.cast(t[1], o.dtype))
    name = frozenset({one.groups[2].name})
    return [
        float(np.sum(oracle.to_numpy(oracle.gauss_newton_diagonal(oracle.parameters, name))[group]))
        for oracle in (two, one)
        for group in name
    ]


def losses_of_the_parameters() -> dict[str, str]:
    """Messages for callable losses that depend on parameters beside the outputs."""
    model, data = network(), (inputs(), labels())
    kernel, bias = model.layers[0].kernel, model.layers[-1].bias
    bias.assign(np.zeros(bias.shape))
    penalties: dict[str, Callable[[], Any]] = {
        "weight decay": lambda: ops.sum(kernel**2),
        "decay of zeros": lambda: ops.sum(bias**2),
        "cut out of the graph": lambda: ops.sum(ops.stop_gradient(kernel) ** 2),
        "the model once more": lambda: ops.mean(model(inputs()) ** 2),
    }
    found = {what: failure(model, data, _with_penalty(penalty)) for what, penalty in penalties.items()}
    weighted = (*data, np.ones(11))
    return found | {"with sample weights": failure(model, weighted, _with_penalty(penalties["weight decay"]))}


def _with_penalty(penalty: Callable[[], Any]) -> Callable[[Any, Any], Any]:
    return lambda outputs, _: outputs[:, 0] ** 2 + ops.cast(penalty(), outputs.dtype)


def loss_by_way_of_numpy() -> str:
    """The message for a loss that leaves the framework."""
    return failure(
        network(), (inputs(), labels()), lambda o, _: ops.convert_to_tensor(ops.convert_to_numpy(o)[:, 0] ** 2)
    )


def named_losses_of_several_targets() -> dict[str, str]:
    """Messages for losses by name, of the library's and of Keras', that are given two arrays of targets."""
    data = inputs(), (labels(), labels())
    return {loss: failure(network(), data, loss) for loss in ("cross_entropy", "log_cosh")}


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
    marked = network(lambda x: x - ops.mean(ops.where(ops.abs(x) > MANY, x, ops.zeros_like(x)), axis=0, keepdims=True))
    later = [(inputs(), labels()), (inputs() + 9 * MANY, labels())]
    return {
        "centered": failure(centered, (inputs(), labels()), "cross_entropy"),
        "against the last": failure(last, (inputs(), labels()), "cross_entropy"),
        "neighbors": failure(network(lambda x: x + ops.roll(x, 1, axis=0)), (inputs(), labels()), "cross_entropy"),
        "a later batch": failure(marked, later, "cross_entropy"),
        "one example": failure(centered, (inputs()[:1], labels(1)), "cross_entropy"),
    }


CHECKS = [
    joint_losses,
    own_losses,
    losses_that_count_rows,
    diagonal_under_several_targets,
    losses_of_the_parameters,
    loss_by_way_of_numpy,
    named_losses_of_several_targets,
    derivatives,
    mixtures,
]
