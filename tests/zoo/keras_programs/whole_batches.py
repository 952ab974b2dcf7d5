"""A batch that is one example, in Keras: values under losses of whole batches, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import keras_problems  # noqa: F401 - which sets the precision
import numpy as np
from joint_losses import BATCHES, GRAPHS, JOINT, WEIGHTS, X, Y, of_batch
from keras import layers, ops

import invariant_sharpness as ish
from invariant_sharpness_keras import backend


class Centered(layers.Layer):
    """Subtracts the mean over the batch."""

    def call(self, x: Any) -> Any:
        return x - ops.mean(x, axis=0, keepdims=True)


def network(*between: Any) -> keras.Model:
    first, second = (layers.Dense(width, use_bias=False) for width in (4, 2))
    model = keras.Sequential([keras.Input((3,)), first, layers.Activation("tanh"), *between, second])
    model.set_weights([WEIGHTS["first"].T, WEIGHTS["second"].T])
    return model


def oracle_of(loss: Any, data: Any = BATCHES, model: Any = None, **options: Any) -> Any:
    given = of_batch(JOINT[loss], ops) if loss in JOINT else loss
    return backend.oracle(model or network(Centered()), data, loss=given, **{"examples": "batches", **options})


def values_of_whole_batches() -> dict[str, Any]:
    """Everything that an oracle computes under a loss of whole batches."""
    oracle = oracle_of("contrastive")
    p, names = oracle.parameters, frozenset(group.name for group in oracle.groups)
    return derivatives(oracle) | {
        "Gauss-Newton product": flat(oracle, oracle.gauss_newton_vector_product(p, wave(oracle))),
        "Gauss-Newton diagonal": flat(oracle, oracle.gauss_newton_diagonal(p, names)),
        "second moment": flat(oracle, oracle.gradient_second_moment(p)),
    }


def derivatives(oracle: Any) -> dict[str, Any]:
    p = oracle.parameters
    return {
        "loss": oracle.loss(p),
        "gradient": flat(oracle, oracle.gradient(p)),
        "product": flat(oracle, oracle.hessian_vector_product(p, wave(oracle))),
        "examples": [oracle.examples, oracle.outputs_per_example],
    }


def wave(oracle: Any) -> Any:
    arrays = oracle.to_numpy(oracle.parameters)
    return oracle.from_numpy(
        {name: np.cos(np.arange(array.size)).reshape(array.T.shape).T for name, array in arrays.items()}
    )


def flat(oracle: Any, vector: Any) -> list[float]:
    """The numbers of both kernels, with outputs before inputs."""
    return [float(number) for array in oracle.to_numpy(vector).values() for number in array.T.ravel()]


class Messages(keras.Model):
    """The same layers, between which every node of a graph adds up what comes along its edges."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (layers.Dense(width, use_bias=False) for width in (4, 2))

    def call(self, graph: dict[str, Any]) -> Any:
        hidden = ops.tanh(self.first(graph["nodes"]))
        along = ops.take(hidden, graph["edges"][0], axis=0)
        sums = ops.segment_sum(along, graph["edges"][1], num_segments=ops.shape(hidden)[0])
        return self.second(hidden + sums)


def graphs_in_dictionaries() -> dict[str, Any]:
    """What an oracle of graphs computes, each of which is a dictionary."""
    model = Messages()
    model({key: ops.convert_to_tensor(array) for key, array in GRAPHS[0].items() if key != "labels"})
    model.set_weights([WEIGHTS["first"].T, WEIGHTS["second"].T])
    return derivatives(oracle_of("cross_entropy", GRAPHS, model))


def losses_of_rows() -> dict[str, list[float]]:
    """Losses by name, of the library's and of Keras', and the means over each batch of their rows."""
    labels, numbers = (Y % 2).astype(int), X[:, :2]
    cases = {
        "cross_entropy": ("cross_entropy", labels, _cross_entropy),
        "mean_squared_error": ("mean_squared_error", numbers, lambda z, t: ((z - t) ** 2).mean(1)),
        "log_cosh": ("log_cosh", numbers, lambda z, t: np.log(np.cosh(z - t)).mean(1)),
    }
    return {what: _mean_over_batches(*case) for what, case in cases.items()}


def _mean_over_batches(loss: Any, targets: Any, rows: Callable[[Any, Any], Any]) -> list[float]:
    batches = [(X[:4], targets[:4]), (X[4:], targets[4:])]
    oracle, parts = oracle_of(loss, batches), []
    for x, y in batches:
        hidden = np.tanh(x @ WEIGHTS["first"].T)
        parts.append(rows((hidden - hidden.mean(0)) @ WEIGHTS["second"].T, y).mean())
    return [oracle.loss(oracle.parameters), float(np.mean(parts))]


def _cross_entropy(z: Any, y: Any) -> Any:
    return np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), y]


def single_rows_before_several() -> list[list[float]]:
    """Diagonals of a data set whose first batch has one row, and the mean of those of its batches."""
    batches = [(X[:1], Y[:1]), (X[1:6], Y[1:6]), (X[6:], Y[6:])]

    def diagonal(data: Any) -> Any:
        oracle = oracle_of("standardized", data, network())
        found = oracle.to_numpy(
            oracle.gauss_newton_diagonal(oracle.parameters, frozenset(g.name for g in oracle.groups))
        )
        return np.concatenate([array.ravel() for array in found.values()])

    mean = np.mean([diagonal([batch]) for batch in batches], axis=0)
    return [[float(number) for number in array] for array in (diagonal(batches), mean)]


def refused_batches() -> dict[str, str]:
    tried: dict[str, Callable[[], Any]] = {
        "one loss for each row": lambda: oracle_of(lambda o, _: o[:, 0] ** 2),
        "sample weights": lambda: oracle_of("mse", [(X, X[:, :2], np.ones(10))]),
        "another kind": lambda: oracle_of("centered", examples="graphs"),
        "label": lambda: oracle_of("cross_entropy", [(X[:2], np.array([0, 2]))]),
    }
    found = {}
    for what, build in tried.items():
        try:
            build()
            found[what] = "nothing was raised"
        except ish.InvariantSharpnessError as error:
            found[what] = f"{type(error).__name__}: {error}"
    return found


CHECKS = [values_of_whole_batches, graphs_in_dictionaries, losses_of_rows, single_rows_before_several, refused_batches]
