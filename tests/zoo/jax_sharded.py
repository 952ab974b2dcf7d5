"""Measures a network on one device, and on four in several layouts; prints how far apart the results are, and where they lie.

A program of its own, in the environment of ``zoo.host_devices.divided_processor(4)``.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import invariant_sharpness as ish
from zoo.jax_networks import Network, random_parameters
from zoo.vectors import flat

SIZES = (8, 8, 4)
ROWS, COLUMNS = P("devices"), P(None, "devices")
KEYS = ("dense_0.bias", "dense_0.kernel", "dense_1.bias", "dense_1.kernel")


@dataclass(frozen=True)
class Layout:
    """How the parameters are spread, if at all; whether the examples are; and whether the types of arrays say so."""

    parameters: dict[str, P] | None
    examples: bool = False
    typed: bool = False

    def mesh(self) -> Any:
        kind = AxisType.Explicit if self.typed else AxisType.Auto
        return jax.make_mesh((4,), ("devices",), axis_types=(kind,))

    def spread(self, tree: Any) -> Any:
        def place(path: Any, array: Any) -> Any:
            return jax.device_put(array, NamedSharding(self.mesh(), self.parameters[name_of(path)]))

        return tree if self.parameters is None else jax.tree_util.tree_map_with_path(place, tree)


BY_UNITS = dict(zip(KEYS, (ROWS, COLUMNS, P(), ROWS), strict=True))
LAYOUTS = {
    "units": Layout(BY_UNITS),
    "units, typed": Layout(BY_UNITS, typed=True),
    "rows and examples": Layout(dict.fromkeys(KEYS, ROWS), examples=True),
    "examples": Layout(None, examples=True),
}


def name_of(path: Any) -> str:
    return ".".join(key.key for key in path)


def vectors(oracle: Any) -> dict[str, Any]:
    """Everything that has the form of the parameters."""
    random = np.random.default_rng(2)
    p, u = oracle.parameters, oracle.from_numpy({g.name: random.normal(size=g.shape) for g in oracle.groups})
    names = frozenset(group.name for group in oracle.groups)
    first, second = oracle.output_curvature(p, u, 0)
    return {
        "from_numpy": u,
        "gradient": oracle.gradient(p),
        "product": oracle.hessian_vector_product(p, u),
        "Gauss-Newton product": oracle.gauss_newton_vector_product(p, u),
        "diagonal": oracle.gauss_newton_diagonal(p, names),
        "diagonal of one group": oracle.gauss_newton_diagonal(p, frozenset(["dense_1.kernel"])),
        "second moments": oracle.gradient_second_moment(p),
        "transposed Jacobian product": oracle.vector_jacobian_product(p, random.normal(size=(5, SIZES[-1]))),
        "slope of the outputs": first,
        "curvature of the outputs": second,
        "parameters afterwards": oracle.parameters,
    }


def numbers(oracle: Any) -> dict[str, float]:
    names = ("normalized_sharpness", "hessian_spectral_norm", "hessian_frobenius_norm")
    return {name: ish.METRICS[name].function(oracle).value for name in names}


def with_typed_axes(parameters: Any, x: Any) -> Any:
    """The same network where the types of arrays say how they are spread: a sum over devices has to say where it goes."""
    first, second = parameters.values()
    hidden = jax.nn.relu(x @ first["kernel"] + first["bias"])
    return jnp.matmul(hidden, second["kernel"], out_sharding=P()) + second["bias"]


def measured(apply: Any, parameters: Any, x: Any, y: Any) -> tuple[dict[str, Any], dict[str, float], Any]:
    oracle = ish.oracle(apply, (x, y), parameters=parameters)
    found = vectors(oracle)
    values = {name: flat(vector) for name, vector in found.items()}
    given = {name_of(path): array for path, array in jax.tree_util.tree_leaves_with_path(parameters)}
    moved = {
        what: [name for name, array in given.items() if not is_kept(vector[name], array)]
        for what, vector in found.items()
    }
    return values, numbers(oracle), moved


def is_kept(array: Any, parameter: Any) -> bool:
    return array.sharding.is_equivalent_to(parameter.sharding, array.ndim)


def difference(values: Any, expected: Any) -> float:
    """All numbers are of order one, but for the curvature of the outputs, which is zero."""
    return float(np.abs(values - expected).max() / max(1.0, np.abs(expected).max()))


def compared(layout: Layout, parameters: Any, x: Any, y: Any, expected: Any) -> dict[str, Any]:
    if layout.examples:
        x, y = (jax.device_put(array, NamedSharding(layout.mesh(), ROWS)) for array in (x, y))
    with jax.set_mesh(layout.mesh()) if layout.typed else nullcontext():
        apply = with_typed_axes if layout.typed else Network().apply
        values, numbers, moved = measured(apply, layout.spread(parameters), x, y)
    errors = {what: difference(values[what], value) for what, value in expected[0].items()}
    errors |= {what: abs(numbers[what] / value - 1) for what, value in expected[1].items()}
    return {"errors": errors, "moved": moved}


def main() -> None:
    assert jax.device_count() == 4, f"{jax.device_count()} devices"
    random = np.random.default_rng(0)
    parameters = random_parameters(sizes=SIZES)
    x, y = random.normal(size=(12, SIZES[0])), random.integers(0, SIZES[-1], 12)
    expected = measured(Network().apply, parameters, x, y)
    print(json.dumps({name: compared(layout, parameters, x, y, expected) for name, layout in LAYOUTS.items()}))


main()
