"""What a measurement costs, in gradients of the whole data set, and how much memory it takes.

    python docs/experiments/cost.py

Two networks of the usual sizes, in float32 with PyTorch: a 784-512-512-10 perceptron on 2,048 examples (A), and
a network with two convolutions on 512 images of 3 x 32 x 32 (B), in batches of 256. The data are random, which
does not matter for the cost. All times are the least of several runs in one process; memory is the peak of
a process of its own, on data that are made batch by batch, so that they take no memory themselves.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.estimators.diagonals.exactness import curvature_defects

RUNS = 5
BATCH = 256


def perceptron() -> nn.Module:
    """Work A."""
    return nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )  # fmt: skip


def convolutions() -> nn.Module:
    """Work B."""
    features = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    features += [nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, 10))


WORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "A": (perceptron, (784,), 2048),
    "B": (convolutions, (3, 32, 32), 512),
}


class RandomBatches:
    """The same random batches on every pass, made when they are asked for."""

    def __init__(self, shape: tuple[int, ...], examples: int) -> None:
        self._shape = shape
        self._examples = examples

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for number in range(self._examples // BATCH):
            generator = torch.Generator().manual_seed(number)
            x = torch.rand(BATCH, *self._shape, generator=generator)
            yield x, torch.randint(0, 10, (BATCH,), generator=generator)


def seconds(function: Callable[[], object]) -> float:
    """The least time of several runs."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def ratios(work: str) -> dict[str, float]:
    """Times divided by that of one gradient."""
    network, shape, examples = WORKS[work]
    torch.manual_seed(0)
    oracle = ish.oracle(network(), list(RandomBatches(shape, examples)))
    point = oracle.parameters
    diagonal = ish.hessian_diagonal(oracle)
    names = frozenset(diagonal.groups)
    gradient = seconds(lambda: oracle.gradient(point))
    costs = {
        "one Hessian-vector product": lambda: oracle.hessian_vector_product(point, point),
        "certificate of exactness": lambda: curvature_defects(oracle),
        "exact diagonal of all layers": lambda: oracle.gauss_newton_diagonal(point, names),
        "solver of (17), all layers": lambda: ish.normalized_sharpness(oracle, diagonal=diagonal),
        "normalized_sharpness, all included": lambda: ish.normalized_sharpness(oracle),
        "fisher_rao_norm": lambda: ish.fisher_rao_norm(oracle),
    }
    return {"one gradient, in milliseconds": 1e3 * gradient} | {k: seconds(f) / gradient for k, f in costs.items()}


def peak_memory(work: str, multiple: int) -> float:
    """Peak memory, in MB, of a process that measures (17) on so many times the data."""
    command = [sys.executable, __file__, "--measure-memory", work, "--multiple", str(multiple)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_memory(work: str, multiple: int) -> float:
    """Measure in this process, and look at its peak."""
    network, shape, examples = WORKS[work]
    torch.manual_seed(0)
    ish.normalized_sharpness(ish.oracle(network(), RandomBatches(shape, examples * multiple)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure-memory", choices=list(WORKS), help=argparse.SUPPRESS)
    parser.add_argument("--multiple", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure_memory:
        print(measure_memory(arguments.measure_memory, arguments.multiple))
        return
    # memory comes first: a process starts with the peak of the one that started it
    memory = {multiple: [f"{peak_memory(work, multiple):.0f}" for work in WORKS] for multiple in (1, 4, 16)}
    measured = {work: ratios(work) for work in WORKS}
    table = Table("cost, in gradients", *(f"work {work}" for work in WORKS))
    for name in measured["A"]:
        table.add_row(name, *(f"{measured[work][name]:.2f}" for work in WORKS))
    for multiple, peaks in memory.items():
        table.add_row(f"peak memory with {multiple} x the data, in MB", *peaks)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
