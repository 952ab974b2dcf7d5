"""Stochastic gradient descent in batches of 8 at its edge of stability: the last figure of ``docs/edge_of_stability.md``.

    python docs/experiments/edge_of_stability_batches.py --data DIR

``DIR/cifar10_small.npz`` holds ``x_train`` of shape (n, 3, 32, 32) as bytes, and ``y_train``. A ReLU network learns the first 1,024 images, averaged to
8 by 8 pixels, from the squared error with a constant learning rate and without momentum, in double precision. The minibatches that it is measured on are
those of one cut. The figure goes to ``docs/_static/edge_of_stability_batches.png``, its numbers are printed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from edge_of_stability_figure import Curves, draw, summary

import invariant_sharpness as ish
from invariant_sharpness_numpy import ReluNetwork
from invariant_sharpness_numpy.derivatives import backward, forward, gradient
from invariant_sharpness_numpy.layers import Layer

EXAMPLES, WIDTH, CLASSES, BATCH, MINIBATCHES = 1_024, 96, 10, 8, 96
LEARNING_RATE, STEPS, EVERY = 0.3, 24_000, 4_000

Array = npt.NDArray[np.float64]


def data(folder: Path) -> tuple[Array, Array]:
    """Images ``(n, 192)``, of zero mean in each pixel and unit variance over all, and their classes as unit vectors."""
    file = folder / "cifar10_small.npz"
    if not file.is_file():
        sys.exit(f"cifar10_small.npz is not in {folder}: give the folder that holds it with --data DIR")
    with np.load(file) as arrays:
        images, labels = arrays["x_train"][:EXAMPLES], arrays["y_train"][:EXAMPLES].reshape(-1)
    x = images.reshape(EXAMPLES, 3, 8, 4, 8, 4).mean((3, 5)).reshape(EXAMPLES, -1)
    centered = x - x.mean(0)
    return centered / centered.std(), np.eye(CLASSES)[labels]


def initial(inputs: int) -> list[Layer]:
    """Two hidden layers, with weights and biases that are uniform up to one over the root of the inputs, as PyTorch draws them."""
    random, sizes = np.random.default_rng(0), (inputs, WIDTH, WIDTH, CLASSES)
    return [
        Layer(*(random.uniform(-1, 1, shape) / np.sqrt(below) for shape in ((above, below), (above,))))
        for below, above in pairwise(sizes)
    ]


def descend(layers: list[Layer], x: Array, y: Array) -> None:
    """Take one step along the gradient of the mean squared error, in place."""
    passed = forward(layers, x)
    cotangents = 2 * (passed.outputs - y) / y.size
    for layer, slope in zip(
        layers, gradient(passed.activations, backward(layers, passed.slopes, cotangents)), strict=True
    ):
        for array, change in zip(layer, slope, strict=True):
            array -= LEARNING_RATE * change


def minibatches() -> Iterator[npt.NDArray[np.int64]]:
    """The rows of each step, epoch after epoch without an end."""
    random = np.random.default_rng(1)
    while True:
        yield from random.permutation(EXAMPLES).reshape(-1, BATCH)


def measured(layers: list[Layer], x: Array, y: Array) -> dict[str, float]:
    """The curvature of all data, and that of minibatches along their gradients."""
    weights, biases = zip(*layers, strict=True)
    oracle = ish.oracle(ReluNetwork(weights, biases), (x, y), loss="mse")
    cut = {"size": BATCH, "minibatches": MINIBATCHES}
    return {
        "loss": oracle.loss(oracle.parameters),
        "largest eigenvalue": ish.preconditioned_sharpness(oracle, tolerance=1e-2).value,
        "batch sharpness": ish.batch_sharpness(oracle, **cut).value,
        "ratio of the means": ish.pooled_batch_sharpness(oracle, **cut).value,
    }


def train(x: Array, y: Array) -> Curves:
    """Losses and curvatures over the steps."""
    layers, curves = initial(x.shape[1]), Curves()
    for step, rows in zip(range(1, STEPS + 1), minibatches(), strict=False):
        descend(layers, x[rows], y[rows])
        if step % EVERY == 0:
            for name, value in {"step": step, **measured(layers, x, y)}.items():
                curves.setdefault(name, []).append(value)
            print(", ".join(f"{name} {values[-1]:.4g}" for name, values in curves.items()), file=sys.stderr, flush=True)
    return curves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10_small.npz")
    curves, threshold = train(*data(parser.parse_args().data)), 2 / LEARNING_RATE
    draw("batches", f"Gradient descent, batches of {BATCH}", curves, threshold, line="2 / learning rate")
    print(f"batches  {summary(curves, threshold)}")


if __name__ == "__main__":
    main()
