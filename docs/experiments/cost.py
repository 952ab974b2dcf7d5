"""What a measurement costs in PyTorch, JAX and Keras, in gradients of the whole data set.

    python docs/experiments/cost.py [torch] [jax] [tensorflow]

Each framework runs in a process of its own. A time is the least of several runs, and is divided by that of one gradient of the
same network on the same data, run in turns with it: that of a plain loop for PyTorch and JAX, the oracle's for Keras.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import works
from rich.console import Console
from rich.table import Table

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import curvature_defects
from invariant_sharpness.protocol import BlockProductOracle, supports

FRAMEWORKS = ("torch", "jax", "tensorflow")
BLOCK = 16


def oracle_and_gradient(framework: str, work: str) -> tuple[ish.CurvatureOracle, Callable[[], object]]:
    """The oracle of a network, and what counts as one gradient."""
    if framework == "torch":
        network, data = works.torch_network(work), works.torch_batches(work)
        return ish.oracle(network, data), works.torch_gradient(network, data)
    if framework == "jax":
        apply, parameters = works.jax_network(work)
        data = works.batches_channels_last(work)
        return ish.oracle(apply, data, parameters=parameters), works.jax_gradient(apply, parameters, data)
    oracle = ish.oracle(works.keras_network(work), works.batches_channels_last(work))
    return oracle, partial(oracle.gradient, oracle.parameters)


def costs(framework: str, work: str) -> dict[str, float]:
    """Times divided by that of one gradient."""
    oracle, gradient = oracle_and_gradient(framework, work)
    point = oracle.parameters
    diagonal = ish.hessian_diagonal(oracle)
    names = frozenset(diagonal.groups)
    random = np.random.default_rng(0)
    block = [oracle.from_numpy({g.name: random.normal(size=g.shape) for g in oracle.groups}) for _ in range(BLOCK)]
    measured: dict[str, tuple[Callable[[], object], int]] = {
        "the oracle's gradient": (lambda: oracle.gradient(point), 1),
        "one Hessian-vector product": (lambda: oracle.hessian_vector_product(point, block[0]), 1),
        "certificate of exactness": (lambda: curvature_defects(oracle), 1),
        "exact diagonal of all layers": (lambda: oracle.gauss_newton_diagonal(point, names), 1),
        "normalized_sharpness, all included": (lambda: ish.normalized_sharpness(oracle), 1),
        "fisher_rao_norm": (lambda: ish.fisher_rao_norm(oracle), 1),
    }
    if supports(oracle, BlockProductOracle):
        measured[f"a product in a block of {BLOCK}"] = (lambda: oracle.hessian_vector_products(point, block), BLOCK)
    return {name: works.ratio(function, gradient) / count for name, (function, count) in measured.items()}


def in_a_process(framework: str) -> dict[str, dict[str, float]]:
    """The costs of both works, from a process that imports this framework alone."""
    environment = os.environ | {"KERAS_BACKEND": framework}
    command = [sys.executable, __file__, "--in-process", framework]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, dict[str, float]] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frameworks", nargs="*", metavar="FRAMEWORK")
    parser.add_argument("--in-process", choices=FRAMEWORKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_process:
        print(json.dumps({work: costs(arguments.in_process, work) for work in works.SHAPES}))
        return
    measured = {framework: in_a_process(framework) for framework in arguments.frameworks or FRAMEWORKS}
    columns = [(framework, work) for framework in measured for work in works.SHAPES]
    table = Table("cost, in gradients", *(f"{framework} {work}" for framework, work in columns))
    for name in dict.fromkeys(name for framework, work in columns for name in measured[framework][work]):
        cells = [measured[framework][work].get(name) for framework, work in columns]
        table.add_row(name, *("-" if cell is None else f"{cell:.2f}" for cell in cells))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
