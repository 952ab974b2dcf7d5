"""What draws at layers, terms of the Gauss-Newton diagonal and probes of the residual part cost, in gradients.

    python docs/experiments/draw_costs.py [torch] [jax] [--device DEVICE]

Two networks, written once for both frameworks: an encoder of two blocks on 512 sequences of 8 positions, and a GELU perceptron on 2,048 vectors. float32, batches
of 256. The unit is the oracle's own gradient, run in turns with what is measured; JAX compiles before it is timed. With a device, which is PyTorch's,
times are by the clock.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import works
from rich.console import Console
from rich.table import Table
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import affine_test

WIDTH, HIDDEN, CLASSES, DRAWS, BLOCK = 64, 128, 10, 8, 16

Arrays = dict[str, Any]


class Functions(NamedTuple):
    """What the networks need of a framework beside matrix products."""

    gelu: Callable[[Any], Any]
    softmax: Callable[[Any], Any]
    transposed: Callable[[Any], Any]
    mean: Callable[[Any], Any]


TORCH = Functions(nn.functional.gelu, lambda x: x.softmax(-1), lambda x: x.mT, lambda x: x.mean(1))
JAX = Functions(jax.nn.gelu, jax.nn.softmax, lambda x: jnp.swapaxes(x, -1, -2), lambda x: x.mean(1))


def encoder_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"embed": (8, WIDTH)}
    for block in "ab":
        shapes |= {f"{block}_{name}": (WIDTH, WIDTH) for name in ("query", "key", "value", "output")}
        shapes |= {f"{block}_up": (WIDTH, HIDDEN), f"{block}_down": (HIDDEN, WIDTH)}
    return shapes | {"head": (WIDTH, CLASSES)}


def encoder(p: Arrays, x: Any, f: Functions) -> Any:
    x = x @ p["embed"]
    for block in "ab":
        query, key, value = (x @ p[f"{block}_{name}"] for name in ("query", "key", "value"))
        x = x + f.softmax(query @ f.transposed(key) / WIDTH**0.5) @ value @ p[f"{block}_output"]
        x = x + f.gelu(x @ p[f"{block}_up"]) @ p[f"{block}_down"]
    return f.mean(x) @ p["head"]


PERCEPTRON = {"first": (64, 256), "second": (256, 256), "third": (256, 256), "last": (256, CLASSES)}


def perceptron(p: Arrays, x: Any, f: Functions) -> Any:
    for name in ("first", "second", "third"):
        x = f.gelu(x @ p[name])
    return x @ p["last"]


NETWORKS = {
    "encoder": (encoder, encoder_shapes(), (512, 8, 8)),
    "perceptron": (perceptron, PERCEPTRON, (2048, 64)),
}


class Module(nn.Module):
    """A function of parameters as a module."""

    def __init__(self, function: Callable[..., Any], arrays: Arrays) -> None:
        super().__init__()
        self.function = function
        self.arrays = nn.ParameterDict({name: torch.from_numpy(array) for name, array in arrays.items()})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.arrays, x, TORCH)


def oracle_of(framework: str, network: str, device: str | None) -> Any:
    function, shapes, size = NETWORKS[network]
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=s).astype(np.float32) / s[0] ** 0.5 for name, s in shapes.items()}
    x, y = random.normal(size=size).astype(np.float32), random.integers(CLASSES, size=size[0])
    data = [(x[k : k + works.BATCH], y[k : k + works.BATCH]) for k in range(0, len(x), works.BATCH)]
    if framework == "torch":
        model = Module(function, arrays).to(device or "cpu")
        return ish.oracle(model, [(torch.from_numpy(inputs), torch.from_numpy(labels)) for inputs, labels in data])
    return ish.oracle(lambda p, inputs: function(p, inputs, JAX), data, parameters=arrays)


def costs(framework: str, network: str, device: str | None) -> dict[str, float]:
    """Times of one draw at one layer, of one term, and so on, divided by that of one gradient."""
    oracle = oracle_of(framework, network, device)
    at, names = oracle.parameters, frozenset(group.name for group in oracle.groups)
    random = np.random.default_rng(0)
    block = [oracle.from_numpy({g.name: random.normal(size=g.shape) for g in oracle.groups}) for _ in range(BLOCK)]
    units = oracle.layer_units(at)
    curved = {name: of_layer for name, of_layer in units.items() if not name.endswith(("head", "last"))}
    measured: dict[str, tuple[Callable[[], object], int]] = {
        "product with H, in a block of 16": (lambda: oracle.hessian_vector_products(at, block), BLOCK),
        "product with H": (lambda: oracle.hessian_vector_product(at, block[0]), 1),
        "product with G": (lambda: oracle.gauss_newton_vector_product(at, block[0]), 1),
        "product with R": (lambda: oracle.residual_vector_products(at, block[:1], names), 1),
        "term of diag(G)": (lambda: oracle.gauss_newton_diagonal(at, names), CLASSES - 1),
        "sample of the outputs": (lambda: oracle.sampled_gauss_newton_diagonal(at, names, range(DRAWS), 0), DRAWS),
        "scales of the output units": (lambda: oracle.layer_units(at), 1),
        "affine test": (lambda: affine_test(oracle), 1),
        "draw at a layer": (
            lambda: oracle.sampled_residual_diagonal(at, curved, range(DRAWS), 0),
            DRAWS * len(curved),
        ),
    }
    gradient = waiting(lambda: oracle.gradient(at))
    seconds = works.processor_seconds if device is None else works.device_seconds
    return {name: works.ratio(waiting(f), gradient, seconds) / count for name, (f, count) in measured.items()}


def waiting(function: Callable[[], object]) -> Callable[[], object]:
    """Wait for a vector that JAX may still be computing."""
    return lambda: jax.block_until_ready(getattr(result := function(), "arrays", result))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frameworks", nargs="*", metavar="FRAMEWORK")
    parser.add_argument("--device", help="where PyTorch's networks are: cuda, xpu or mps")
    arguments = parser.parse_args()
    columns = [(name, network) for name in arguments.frameworks or ("torch", "jax") for network in NETWORKS]
    table = Table("cost, in gradients", *(" ".join(column) for column in columns))
    found = [costs(*column, arguments.device) for column in columns]
    for name in found[0]:
        table.add_row(name, *(f"{one[name]:.2f}" for one in found))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
