"""What a measurement costs in PyTorch, JAX and Keras, in gradients of the whole data set.

    python docs/experiments/cost.py [torch] [jax] [tensorflow] [--rows WORD ...] [--device DEVICE]

Each framework runs in a process of its own. A time is the median of several runs, and is divided by that of one gradient of the
same network on the same data, run in turns with it: that of a plain loop for PyTorch and JAX, the oracle's for Keras. Times are those of the
processors; with a device, such as cuda, which is PyTorch's, they are by the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import encoder
import numpy as np
import works
from rich.console import Console
from rich.table import Table

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import affine_test
from invariant_sharpness.protocol import BlockProductOracle, supports

FRAMEWORKS = ("torch", "jax", "tensorflow")
WORKS = ("A", "B", "C")
BLOCK = 16


def oracle_and_gradient(
    framework: str, work: str, device: str | None
) -> tuple[ish.CurvatureOracle, Callable[[], object]]:
    """The oracle of a network, and what counts as one gradient."""
    network, data = network_and_data(framework, work)
    if framework == "torch":
        network = network.to(device or "cpu")
        return ish.oracle(network, data), works.torch_gradient(network, data)
    if framework == "jax":
        apply, parameters = network
        return ish.oracle(apply, data, parameters=parameters), works.jax_gradient(apply, parameters, data)
    oracle = ish.oracle(network, data)
    return oracle, partial(oracle.gradient, oracle.parameters)


def network_and_data(framework: str, work: str) -> tuple[Any, Any]:
    """A network, in JAX a function and its parameters, and its data."""
    if framework == "torch":
        if work == "C":
            return encoder.torch_encoder(), encoder.torch_batches()
        return works.torch_network(work), works.torch_batches(work)
    if work == "C":
        return encoder.jax_encoder() if framework == "jax" else encoder.keras_encoder(), encoder.batches()
    network = works.jax_network(work) if framework == "jax" else works.keras_network(work)
    return network, works.batches_channels_last(work)


def costs(framework: str, work: str, words: Sequence[str], device: str | None = None) -> dict[str, float]:
    """Times divided by that of one gradient, in the rows that have one of these words."""
    oracle, gradient = oracle_and_gradient(framework, work, device)
    point = oracle.parameters
    names = frozenset(group.name for group in oracle.groups)
    random = np.random.default_rng(0)
    block = [oracle.from_numpy({g.name: random.normal(size=g.shape) for g in oracle.groups}) for _ in range(BLOCK)]
    measured: dict[str, tuple[Callable[[], object], int]] = {
        "the oracle's gradient": (lambda: oracle.gradient(point), 1),
        "one Hessian-vector product": (lambda: oracle.hessian_vector_product(point, block[0]), 1),
        "certificate of exactness": (lambda: affine_test(oracle), 1),
        "exact diagonal of G, all layers": (lambda: oracle.gauss_newton_diagonal(point, names), 1),
        "fisher_rao_norm": (lambda: ish.fisher_rao_norm(oracle), 1),
    }
    if supports(oracle, BlockProductOracle):
        measured[f"a product in a block of {BLOCK}"] = (lambda: oracle.hessian_vector_products(point, block), BLOCK)
    if work != "C":
        known = cache(lambda: ish.hessian_diagonal(oracle))
        measured["normalized_sharpness of a known diagonal"] = (
            lambda: ish.normalized_sharpness(oracle, diagonal=known()),
            1,
        )
        measured["normalized_sharpness, all included"] = (lambda: ish.normalized_sharpness(oracle), 1)
    chosen = {name: row for name, row in measured.items() if any(word in name for word in words)}
    seconds = works.processor_seconds if device is None else works.device_seconds
    return {name: works.ratio(function, gradient, seconds) / count for name, (function, count) in chosen.items()}


def in_a_process(framework: str, words: Sequence[str], device: str | None) -> dict[str, dict[str, float]]:
    """The costs of all works, from a process that imports this framework alone."""
    environment = os.environ | {"KERAS_BACKEND": framework}
    command = [sys.executable, __file__, "--in-process", framework, "--rows", *words]
    command += [] if device is None else ["--device", device]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, dict[str, float]] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frameworks", nargs="*", metavar="FRAMEWORK")
    parser.add_argument(
        "--rows", nargs="+", default=[""], metavar="WORD", help="only rows that have one of these words"
    )
    parser.add_argument("--device", help="where PyTorch's network is: cuda, xpu or mps")
    parser.add_argument("--in-process", choices=FRAMEWORKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_process:
        own = arguments.in_process, arguments.rows, arguments.device
        print(json.dumps({work: costs(own[0], work, *own[1:]) for work in WORKS}))
        return
    frameworks = arguments.frameworks or FRAMEWORKS
    measured = {name: in_a_process(name, arguments.rows, arguments.device) for name in frameworks}
    columns = [(framework, work) for framework in measured for work in WORKS]
    table = Table("cost, in gradients", *(f"{framework} {work}" for framework, work in columns))
    for name in dict.fromkeys(name for framework, work in columns for name in measured[framework][work]):
        cells = [measured[framework][work].get(name) for framework, work in columns]
        table.add_row(name, *("-" if cell is None else f"{cell:.2f}" for cell in cells))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
