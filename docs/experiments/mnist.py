"""Train LeNet-5 and a multilayer perceptron on MNIST, on true and on partly random labels, and measure both.

Run ``python docs/experiments/mnist.py --data DIR``, where ``DIR/mnist.npz`` holds ``x_train`` of shape
(60000, 28, 28), ``y_train``, ``x_test`` and ``y_test``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

import invariant_sharpness as ish

METRICS = [*(name for name, metric in ish.METRICS.items() if metric.default), "hessian_frobenius_norm"]
LOSSES = ("cross_entropy", "normalized_cross_entropy")
CLASSES = 10
BATCH = 128
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Split:
    """Images of shape (n, 1, 28, 28) in [0, 1], and their labels."""

    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Trained:
    """A trained network, the labels that it was trained on, and how well it classifies."""

    name: str
    ratio: float
    model: nn.Module
    training: Split
    training_accuracy: float
    test_accuracy: float


def lenet() -> nn.Module:
    """LeNet-5 with ReLU and max pooling."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, CLASSES)),
    )


def perceptron(width: int = 256) -> nn.Module:
    """Three hidden layers of equal width."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(784, width), nn.ReLU()),
        *(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, CLASSES)),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {"LeNet-5": lenet, "MLP": perceptron}


def load(folder: Path, examples: int, seed: int) -> tuple[Split, Split]:
    """A random part of the training images, and all test images."""
    file = folder / "mnist.npz"
    if not file.is_file():
        sys.exit(f"mnist.npz is not in {folder}: give the folder that holds it with --data DIR")
    with np.load(file) as arrays:
        chosen = np.random.default_rng(seed).permutation(len(arrays["y_train"]))[:examples]
        training = _split(arrays["x_train"][chosen], arrays["y_train"][chosen])
        return training, _split(arrays["x_test"], arrays["y_test"])


def with_random_labels(split: Split, ratio: float, seed: int) -> Split:
    """The same images, with a share of the labels replaced by labels drawn at random."""
    random = np.random.default_rng(seed)
    replaced = random.permutation(len(split.labels))[: round(ratio * len(split.labels))]
    labels = split.labels.clone()
    labels[replaced] = torch.as_tensor(random.integers(0, CLASSES, len(replaced)))
    return Split(split.images, labels)


def train(model: nn.Module, split: Split, epochs: int) -> nn.Module:
    """Minimize the cross-entropy by Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs):
        for rows in torch.randperm(len(split.labels)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(split.images[rows]), split.labels[rows]).backward()
            optimizer.step()
    return model.eval()


def accuracy(model: nn.Module, split: Split) -> float:
    """Share of the images that are classified as labelled."""
    with torch.no_grad():
        predictions = torch.cat([model(images).argmax(dim=1) for images in split.images.split(1000)])
    return float((predictions == split.labels).double().mean())


def train_all(training: Split, test: Split, ratios: list[float], epochs: int, seed: int) -> Iterator[Trained]:
    """Every network on every ratio of random labels."""
    for name, build in NETWORKS.items():
        for ratio in ratios:
            torch.manual_seed(seed)
            labelled = with_random_labels(training, ratio, seed)
            model = train(build(), labelled, epochs)
            yield Trained(name, ratio, model, labelled, accuracy(model, labelled), accuracy(model, test))


def measure(trained: Trained, examples: int, loss: str) -> ish.Report:
    """All metrics, on the first training examples with the labels that the network was trained on."""
    part = (trained.training.images[:examples], trained.training.labels[:examples])
    return ish.measure(ish.oracle(trained.model, part, loss=loss, batch_size=100), METRICS)


def print_row(trained: Trained, loss: str, report: ish.Report) -> None:
    """One block of the table."""
    print(f"\n{trained.name}, {trained.ratio:.0%} random labels, {loss}")
    print(f"  accuracy: training {trained.training_accuracy:.4f}, test {trained.test_accuracy:.4f}")
    print(f"  mean loss where measured: {report.loss:.6g}")
    for name, estimate in report.items():
        print(f"  {name:32} {estimate.value:>12.6g}  {estimate.error_text():24} {estimate.method}")


def to_dict(trained: Trained, loss: str, report: ish.Report) -> dict[str, Any]:
    """Everything about one measurement."""
    return {
        "network": trained.name,
        "random_label_ratio": trained.ratio,
        "training_accuracy": trained.training_accuracy,
        "test_accuracy": trained.test_accuracy,
        "loss": loss,
        "report": report.to_dict(),
    }


def main() -> None:
    """Train, measure, print, and write."""
    options = _options()
    started = time.perf_counter()
    training, test = load(options.data, options.examples, options.seed)
    results = []
    for trained in train_all(training, test, options.ratios, options.epochs, options.seed):
        for loss in LOSSES:
            report = measure(trained, options.measured, loss)
            print_row(trained, loss, report)
            results.append(to_dict(trained, loss, report))
    settings = {k: v for k, v in vars(options).items() if k not in ("data", "output")}
    options.output.write_text(json.dumps({"settings": settings, "results": results}, indent=2) + "\n")
    print(f"\n{len(results)} measurements in {time.perf_counter() - started:.0f} s")


def _split(images: npt.NDArray[np.uint8], labels: npt.NDArray[Any]) -> Split:
    return Split(torch.as_tensor(images[:, None] / 255, dtype=torch.float32), torch.as_tensor(labels.astype(np.int64)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that holds mnist.npz")
    parser.add_argument("--examples", type=int, default=10_000, help="training images (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="passes over them (default %(default)s)")
    parser.add_argument("--measured", type=int, default=1000, help="images to measure on (default %(default)s)")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.0, 0.5], help="shares of random labels")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is random")
    parser.add_argument("--output", type=Path, default=Path("mnist.json"), help="JSON file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
