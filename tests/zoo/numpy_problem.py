"""A small ReLU network on random data: as an oracle, and as a function of one flat array that complex steps differentiate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from invariant_sharpness import ParameterVector
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from zoo import complex_step
from zoo.vectors import flat

SIZES = (4, 5, 3, 3)
EXAMPLES = 11
EXAMPLE_LOSSES = {
    "cross_entropy": complex_step.cross_entropy,
    "normalized_cross_entropy": complex_step.normalized_cross_entropy,
    "mse": complex_step.squared_error,
}


@dataclass(frozen=True)
class Problem:
    """An oracle, and the same losses as a function of one flat array."""

    oracle: NetworkOracle
    theta: Any
    x: Any
    y: Any
    biases: bool
    example_loss: complex_step.ExampleLoss

    def losses(self, theta: Any) -> Any:
        """Losses (m, n) of the examples at the points (m, P)."""
        return self.example_loss(complex_step.outputs(SIZES, theta, self.x, biases=self.biases), self.y)

    def mean_loss(self, theta: Any) -> Any:
        return self.losses(theta).sum(axis=1) / len(self.x)

    def vector(self, values: Any) -> ParameterVector:
        """The flat array, cut into groups."""
        arrays, position = {}, 0
        for group in self.oracle.groups:
            arrays[group.name] = values[position : position + group.size].reshape(group.shape)
            position += group.size
        return self.oracle.from_numpy(arrays)


def random_network(biases: bool) -> ReluNetwork:
    random = np.random.default_rng(3)
    weights = tuple(random.normal(size=(units, inputs)) for inputs, units in pairwise(SIZES))
    return ReluNetwork(weights, tuple(random.normal(size=units) for units in SIZES[1:]) if biases else None)


def random_data(loss: str) -> tuple[Any, Any]:
    random = np.random.default_rng(4)
    x = random.normal(size=(EXAMPLES, SIZES[0]))
    labels, numbers = random.integers(0, 3, EXAMPLES), random.normal(size=(EXAMPLES, 3))
    return x, numbers if loss == "mse" else labels


@cache
def problem(loss: str, biases: bool) -> Problem:
    x, y = random_data(loss)
    oracle = NetworkOracle(random_network(biases), x, y, loss, batch_size=4)
    return Problem(oracle, flat(oracle.parameters), x, y, biases, EXAMPLE_LOSSES[loss])


@cache
def dense_hessian(loss: str, biases: bool) -> Any:
    p = problem(loss, biases)
    return complex_step.hessian(p.mean_loss, p.theta)


@cache
def example_gradients(loss: str, biases: bool) -> Any:
    """Gradients of the examples' losses, (P, n)."""
    p = problem(loss, biases)
    return complex_step.derivatives(p.losses, p.theta[None])[0]
