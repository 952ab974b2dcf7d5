"""
An engine for a new framework
=============================

What it takes to measure the models of another framework: a framework of a few lines, and its engine.

The framework differentiates by complex steps: the imaginary part of f(p + i h v) / h is the derivative of f along v, exact to rounding
for h = 1e-100. A model is two functions of a dictionary of arrays: its outputs, and the gradient of sums of outputs.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

import invariant_sharpness as ish
from invariant_sharpness.adapters import DatasetOracle, HostEngine, Sums, checked_data
from invariant_sharpness.losses import SquaredError
from invariant_sharpness.protocol import BlockProductOracle, SubsetOracle
from invariant_sharpness.testing import check_oracle


# The framework.
def outputs(p, x):
    """One hidden layer of tanh units."""
    return np.tanh(x @ p["hidden"].T) @ p["readout"].T


def pullback(p, x, c):
    """The gradient of the sum of all outputs times c."""
    a = np.tanh(x @ p["hidden"].T)
    return {"hidden": ((c @ p["readout"]) * (1 - a**2)).T @ x, "readout": c.T @ a}


def along(function, p, v, step=1e-100):
    """The derivative of a function of the parameters in the direction v."""
    moved = function({name: p[name] + 1j * step * v[name] for name in p})
    return {name: array.imag / step for name, array in moved.items()}


# The engine: sums over one batch at one parameter point.
class Point:
    def __init__(self, p, loss):
        self.p, self.loss = p, loss

    def evaluate(self, batch):
        return outputs(self.p, batch.inputs), batch.targets

    def row_losses(self, batch):
        return self.loss.values(np, *self.evaluate(batch))

    def losses(self, batch):
        losses = self.row_losses(batch)
        return Sums(weight=float(len(losses)), rows=len(losses), value=losses.sum())

    def gradient(self, batch):
        return self.losses(batch)._replace(arrays=(self._gradient(self.p, batch),))

    def hessian_products(self, vectors, batch):
        products = (along(lambda p: self._gradient(p, batch), self.p, v) for v in vectors)
        return self.losses(batch)._replace(arrays=tuple(products))

    def _gradient(self, p, batch):
        z = outputs(p, batch.inputs)
        return pullback(p, batch.inputs, self.loss.gradient(np, z, batch.targets))


class Engine(HostEngine):
    name = "complex steps"
    offers = frozenset({BlockProductOracle, SubsetOracle})
    samples_outputs = False

    def __init__(self, p):
        super().__init__(
            tuple(
                ish.ParameterGroup(name, w.shape, "matrix", output_axes=(0,), input_axes=(1,)) for name, w in p.items()
            )
        )
        self.p, self.loss = p, SquaredError()

    def parameters(self):
        return self.from_numpy(self.p)

    def check_loss(self, z, y):
        self.loss.check(np, z, y)

    @contextmanager
    def at(self, p):
        yield Point(p, self.loss)


def oracle(examples=40):
    """The mean squared error of a small network on random data."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((examples, 3)), random.standard_normal((examples, 2))
    p = {"hidden": random.standard_normal((4, 3)), "readout": random.standard_normal((2, 4))}
    engine = Engine(p)
    return DatasetOracle(engine, *checked_data(engine, (x, y), batch_size=16))


if __name__ == "__main__":
    for result in check_oracle(oracle()):
        print(result)
    print(ish.measure(oracle(), ["hessian_trace", "hessian_spectral_norm", "normalized_sharpness"]))
