"""One of two processes of ``jax.distributed``, which measure a network on global arrays; prints how far that is from what it says by itself.

A program of its own, because the processes are fixed when JAX starts: ``python -m zoo.jax_distributed RANK PORT FOLDER``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import invariant_sharpness as ish
from zoo.jax_networks import Network, random_parameters

SIZES = (8, 8, 4)
EXAMPLES = 12
ROWS = P("devices")


def spread(array: Any, spec: Any) -> Any:
    """A global array, of which each process has a part."""
    sharding = NamedSharding(jax.make_mesh((2,), ("devices",), axis_types=(AxisType.Auto,)), spec)
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def flat(oracle: Any, vector: Any) -> Any:
    return np.concatenate([array.ravel() for array in oracle.to_numpy(vector).values()])


def measured(oracle: Any, metrics: Any = None) -> dict[str, list[float]]:
    """Vectors and metrics, by default the set of ``measure``."""
    at = oracle.parameters
    random = np.random.default_rng(2)
    u = oracle.from_numpy({group.name: random.normal(size=group.shape) for group in oracle.groups})
    found = {
        "loss": [oracle.loss(at)],
        "gradient": flat(oracle, oracle.gradient(at)).tolist(),
        "product": flat(oracle, oracle.hessian_vector_product(at, u)).tolist(),
        "outputs": oracle.outputs(at, 5).ravel().tolist(),
    }
    return found | {name: [estimate.value] for name, estimate in ish.measure(oracle, metrics, probes=8).items()}


def resumed(oracle: Any, folder: Path) -> list[float]:
    """A norm whose vectors are stored, in a few steps, with more from there on, and in one go."""
    values = []
    for steps in (3, 6):
        with ish.checkpoint(folder, oracle):
            values.append(ish.hessian_spectral_norm(oracle, tolerance=0.0, max_iterations=steps).value)
    return [values[1], ish.hessian_spectral_norm(oracle, tolerance=0.0, max_iterations=6).value]


def main(rank: int, port: str, folder: Path) -> None:
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, rank)
    random = np.random.default_rng(0)
    parameters = random_parameters(sizes=SIZES)
    x, y = random.normal(size=(EXAMPLES, SIZES[0])), random.integers(0, SIZES[-1], EXAMPLES)
    expected = measured(ish.oracle(Network().apply, (x, y), parameters=parameters))
    data = spread(x, ROWS), spread(y, ROWS)
    both = ish.oracle(Network().apply, data, parameters=jax.tree.map(lambda a: spread(a, ROWS), parameters))
    some = ish.oracle(Network().apply, data, parameters=parameters)
    found = {"data": measured(some, ["normalized_sharpness", "hessian_spectral_norm"]), "both": measured(both)}
    half = slice(rank * EXAMPLES // 2, (rank + 1) * EXAMPLES // 2)
    try:
        ish.oracle(Network().apply, (x[half], y[half]), parameters=jax.tree.map(lambda a: spread(a, P()), parameters))
        error = "nothing raised"
    except ish.errors.DataError as raised:
        error = str(raised)
    result = {"expected": expected, **found, "resumed": resumed(both, folder / str(rank)), "error": error}
    print(json.dumps(result))


main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
