"""Losses that need more than one example of a batch, in the functions that torch, JAX and Keras have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

RANDOM = np.random.default_rng(3)
X, Y = RANDOM.normal(size=(10, 3)), np.arange(10.0) % 3
WEIGHTS = {"first": RANDOM.normal(size=(4, 3)), "second": RANDOM.normal(size=(2, 4))}
BATCHES = [(X[:4], Y[:4]), (X[4:], Y[4:])]
"""Two batches of different sizes, and the weights of a network of two layers, outputs first."""

GRAPHS = [
    {"nodes": X[:4], "edges": np.array([[0, 1, 2, 3, 3], [1, 2, 3, 0, 1]]), "labels": np.arange(4) % 2},
    {"nodes": X[4:], "edges": np.array([[0, 1, 5], [4, 0, 3]]), "labels": np.arange(6) % 2},
]
"""Two graphs for a network with the same weights; an edge goes from a node in the first row to the node below it."""

Array = Any
Loss = Callable[[Any, Array, Any], Array]
"""From a namespace, outputs ``(n, K)`` and targets ``(n,)`` to one number per row."""


def centered(xp: Any, o: Array, _: Any) -> Array:
    """Against the mean of the batch."""
    return (o[:, 0] - xp.mean(o[:, 0])) ** 2


def rolled(xp: Any, o: Array, _: Any) -> Array:
    """Against the neighbor."""
    return (o[:, 0] - xp.roll(o[:, 0], 1)) ** 2


def opposite(xp: Any, o: Array, _: Any) -> Array:
    """Against the other view, which stands in the other half."""
    half = o.shape[0] // 2
    return xp.sum((o - xp.roll(o, half, axis=0)) ** 2, axis=1)


def paired(xp: Any, o: Array, _: Any) -> Array:
    """Of two that follow one another, the same."""
    pairs = xp.reshape(o, (o.shape[0] // 2, 2, -1))
    apart = xp.sum((pairs[:, 0] - pairs[:, 1]) ** 2, axis=1)
    return xp.reshape(xp.stack([apart, apart], axis=1), (-1,))


def contrastive(xp: Any, o: Array, _: Any) -> Array:
    """InfoNCE with in-batch negatives: each row shall look like its neighbor, and not like the others."""
    other = xp.roll(o, 1, axis=0)
    scores = o @ xp.moveaxis(other, 0, 1)
    return xp.log(xp.sum(xp.exp(scores), axis=1)) - xp.sum(o * other, axis=1)


def standardized(xp: Any, o: Array, _: Any) -> Array:
    """With the statistics of the batch."""
    return o[:, 0] ** 4 / (1 + xp.mean(o[:, 0] ** 2))


def running(xp: Any, o: Array, _: Any) -> Array:
    """With the sum over all examples before it."""
    return (o[:, 0] + xp.cumsum(o[:, 0], 0)) ** 2


def balanced(xp: Any, o: Array, t: Any) -> Array:
    """Weights from how often the target occurs in the batch."""
    same = xp.reshape(t, (-1, 1)) == xp.reshape(t, (1, -1))
    return o[:, 0] ** 2 / xp.sum(xp.where(same, xp.ones_like(o[:, 0]), xp.zeros_like(o[:, 0])), axis=1)


JOINT: dict[str, Loss] = {
    loss.__name__: loss for loss in (centered, rolled, opposite, paired, contrastive, standardized, running, balanced)
}


def of_rows(loss: Loss, xp: Any) -> Callable[[Array, Any], Array]:
    """As a user writes it: one number per example."""
    return _named(lambda o, t: loss(xp, o, t), loss)


def of_batch(loss: Loss, xp: Any) -> Callable[[Array, Any], Array]:
    """One number for the batch."""
    return _named(lambda o, t: xp.mean(loss(xp, o, t)), loss)


def _named(function: Any, loss: Loss) -> Any:
    function.__name__ = loss.__name__
    return function
