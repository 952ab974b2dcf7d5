"""What other libraries take for the same products and diagonals, in gradients, beside this one.

    pip install --group peers
    python docs/experiments/against_peers.py

The unit is one gradient of the same network on the same data in a plain loop of the same framework. All that stands in the
table runs in one process, each in turns with its unit.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import peers
import works
from rich.console import Console
from rich.table import Table

import invariant_sharpness as ish
from invariant_sharpness.protocol import BlockProductOracle, require

BLOCK = 16

Measured = tuple[Callable[[], object], int]


def block_of_products(oracle: ish.CurvatureOracle) -> Measured:
    """A block of products, as this library computes it."""
    able, random = require(oracle, BlockProductOracle, metric="products"), np.random.default_rng(0)
    block = [oracle.from_numpy({g.name: random.normal(size=g.shape) for g in oracle.groups}) for _ in range(BLOCK)]
    return lambda: able.hessian_vector_products(oracle.parameters, block), BLOCK


def exact_diagonal(oracle: ish.CurvatureOracle) -> Measured:
    """The exact diagonal of all groups, as this library computes it."""
    names = frozenset(group.name for group in oracle.groups)
    return lambda: oracle.gauss_newton_diagonal(oracle.parameters, names), 1


def torch_rows(work: str) -> dict[str, float]:
    """In PyTorch."""
    network, data = works.torch_network(work), works.torch_batches(work)
    oracle = ish.oracle(network, data)
    measured: dict[str, Measured] = {
        f"product in a block of {BLOCK}, this library": block_of_products(oracle),
        f"product in a block of {BLOCK}, curvlinops": (peers.curvlinops_block(work, BLOCK), BLOCK),
        "product, PyHessian": (peers.pyhessian_product(work), 1),
        "exact diagonal, this library": exact_diagonal(oracle),
        "exact diagonal, BackPACK": (peers.backpack_diagonal(work), 1),
    }
    return ratios("PyTorch", measured, works.torch_gradient(network, data))


def jax_rows(work: str) -> dict[str, float]:
    """In JAX."""
    (apply, parameters), data = works.jax_network(work), works.batches_channels_last(work)
    oracle = ish.oracle(apply, data, parameters=parameters)
    product, size = jax.jit(peers.jax_product(apply, parameters)), sum(group.size for group in oracle.groups)
    vector, arrays = jax.random.normal(jax.random.key(0), (size,)), jax.tree.map(jnp.asarray, data)
    measured: dict[str, Measured] = {
        f"product in a block of {BLOCK}, this library": block_of_products(oracle),
        "product by jvp of grad, as for matfree": (lambda: product(vector, arrays).block_until_ready(), 1),
        "exact diagonal, this library": exact_diagonal(oracle),
    }
    return ratios("JAX", measured, works.jax_gradient(apply, parameters, data))


def ratios(framework: str, measured: dict[str, Measured], unit: Callable[[], object]) -> dict[str, float]:
    """Times of single products and diagonals, divided by that of the unit."""
    return {f"{framework}: {name}": works.ratio(f, unit) / count for name, (f, count) in measured.items()}


def main() -> None:
    """Print the table."""
    rows = {work: torch_rows(work) | jax_rows(work) for work in works.SHAPES}
    table = Table("in gradients", *(f"work {work}" for work in rows))
    for name in rows["A"]:
        table.add_row(name, *(f"{rows[work][name]:.2f}" for work in rows))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
