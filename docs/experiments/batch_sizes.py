"""Train a convolutional network on Fashion-MNIST in batches of 16 and of 1,024, and compare the two checkpoints.

Run ``python docs/experiments/batch_sizes.py --data DIR``, where ``DIR/fashion_mnist.npz`` holds ``x_train`` of shape
(60000, 28, 28), ``y_train``, ``x_test`` and ``y_test``. Both are trained on all images until their training loss is at most 0.1, so that
it does not tell them apart. Checkpoints go to ``--checkpoints`` and are taken from there if they are there; the tables and the errors
on the test images are printed, and the picture goes to ``--output``. An epoch takes some ten seconds of one core.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.plotting import new_figure

LEARNING_RATES = {16: 0.003, 1024: 0.1}
SEEDS = range(2)
MEASURED_ON = 2_048
TARGET, MOST_EPOCHS = 0.1, 300


def network() -> nn.Module:
    """Two convolutions with stride 2, and two linear layers: 56,970 parameters."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(800, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def load(folder: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images of a part, "train" or "test", with pixels in [0, 1], and their labels."""
    file = folder / "fashion_mnist.npz"
    if not file.is_file():
        sys.exit(f"fashion_mnist.npz is not in {folder}: give the folder that holds it with --data DIR")
    with np.load(file) as arrays:
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    return torch.from_numpy(x[:, None].astype(np.float32) / 255), torch.from_numpy(y.astype(np.int64))


@torch.no_grad()
def mean_loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return float(nn.functional.cross_entropy(model(x), y))


@torch.no_grad()
def share_of_errors(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return float((model(x).argmax(1) != y).double().mean())


def train(batch: int, seed: int, x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """Train by stochastic gradient descent with momentum, until the training loss is at its target after an epoch."""
    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATES[batch], momentum=0.9)
    for epoch in range(MOST_EPOCHS):
        for part in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
        if (loss := mean_loss(model, x, y)) <= TARGET:
            print(
                f"batches of {batch}, seed {seed}: training loss {loss:.4f} after {epoch + 1} epochs", file=sys.stderr
            )
            return model.eval()
    sys.exit(f"batches of {batch}, seed {seed}: the training loss is {loss:.4f} after {MOST_EPOCHS} epochs")


def checkpoint(folder: Path, batch: int, seed: int, x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """Return the network of a checkpoint, which is trained if it is not there."""
    file = folder / f"batch_{batch}_seed_{seed}.pt"
    if not file.is_file():
        torch.save(train(batch, seed, x, y).state_dict(), file)
    model = network()
    model.load_state_dict(torch.load(file))
    return model.eval()


def compared(folder: Path, seed: int, x: torch.Tensor, y: torch.Tensor) -> ish.Comparison:
    """Compare the two checkpoints of one seed on a part of the data that they were trained on."""
    models = {f"batches of {batch}": checkpoint(folder, batch, seed, x, y) for batch in LEARNING_RATES}
    part = x[:MEASURED_ON], y[:MEASURED_ON]
    return ish.compare({name: ish.oracle(model, part, dtype="float64") for name, model in models.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with fashion_mnist.npz")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="folder of the trained networks")
    parser.add_argument("--output", type=Path, default=Path("docs/_static"), help="folder of the picture")
    given = parser.parse_args()
    given.checkpoints.mkdir(exist_ok=True)
    x, y = load(given.data, "train")
    test = load(given.data, "test")
    for seed in SEEDS:
        comparison = compared(given.checkpoints, seed, x, y)
        print(f"training with seed {seed}\n{comparison}")
        for batch in LEARNING_RATES:
            model = checkpoint(given.checkpoints, batch, seed, x, y)
            loss, errors = mean_loss(model, x, y), share_of_errors(model, *test)
            print(f"batches of {batch}: training loss {loss:.4f}, {errors:.2%} of the test images wrong")
        if seed == 0:
            figure = new_figure(7.2, 4.6)
            above, below = figure.subplots(2, 1, height_ratios=(3, 2))
            comparison.plot(above)
            comparison.plot(below, metric="normalized_sharpness")
            figure.savefig(given.output / "batch_sizes.png")


if __name__ == "__main__":
    main()
