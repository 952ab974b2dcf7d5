"""What keeps memory small changes no value: microbatches, the memory limit, and jax.checkpoint."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness_jax.layer_sites import tapped
from zoo.jax_networks import Network, random_data, random_parameters
from zoo.vectors import flat

MATCHING = 1e-12


def forgetful(parameters: Any, x: Any) -> Any:
    """The network forgets its activations, and computes them again."""
    *hidden, last = parameters.values()
    for layer in hidden:
        x = jax.checkpoint(lambda p, z: jax.nn.gelu(z @ p["kernel"] + p["bias"]))(layer, x)
    return x @ last["kernel"] + last["bias"]


def oracle(apply: Any = None, data: Any = None, **options: Any) -> Any:
    apply = Network(jax.nn.gelu).apply if apply is None else apply
    return ish.oracle(apply, random_data() if data is None else data, parameters=random_parameters(), **options)


def everything(oracle: Any) -> dict[str, Any]:
    point = oracle.parameters
    names, vectors = frozenset(point.arrays), [prng.signs(oracle, 0, k) for k in range(3)]
    found = {
        "gradient": [oracle.gradient(point)],
        "product": [oracle.hessian_vector_product(point, vectors[0])],
        "block": oracle.hessian_vector_products(point, vectors),
        "Gauss-Newton product": [oracle.gauss_newton_vector_product(point, vectors[0])],
        "diagonal": [oracle.gauss_newton_diagonal(point, names)],
        "sampled diagonal": [oracle.sampled_gauss_newton_diagonal(point, names, range(3), 0)],
        "second moments": [oracle.gradient_second_moment(point)],
    }
    return {what: np.stack([flat(vector) for vector in vectors]) for what, vectors in found.items()}


def assert_same(ours: Any, theirs: Any) -> None:
    found, expected = everything(ours), everything(theirs)
    for what, values in expected.items():
        error = float(np.linalg.norm(found[what] - values) / np.linalg.norm(values))
        assert error <= MATCHING, f"{what}: relative error {error:.1e}"


@pytest.mark.slow
def test_checkpointing_changes_nothing() -> None:
    assert_same(oracle(forgetful), oracle())


def test_checkpointed_layers_have_sites() -> None:
    tree, (x, _) = random_parameters(), random_data()
    arrays = {f"{layer}.{name}": array for layer, part in tree.items() for name, array in part.items()}

    def apply(values: Any, inputs: Any) -> Any:
        return forgetful({layer: {name: values[f"{layer}.{name}"] for name in tree[layer]} for layer in tree}, inputs)

    sites = {name for layer in tapped(apply, arrays, x).layers for name in layer.names}
    assert sites == arrays.keys(), f"without a site: {arrays.keys() - sites}"


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 4])
def test_microbatches_change_nothing(size: int) -> None:
    x, y = random_data()
    batches = [(x[:8], y[:8]), (x[8:], y[8:])]
    assert_same(oracle(data=batches, microbatch=size), oracle(data=batches))


@pytest.mark.slow
def test_the_memory_limit_changes_nothing() -> None:
    whole = everything(oracle())
    with ish.memory_limit(1000):
        found = everything(oracle())
    errors = {what: float(np.linalg.norm(found[what] - v) / np.linalg.norm(v)) for what, v in whole.items()}
    assert max(errors.values()) <= MATCHING, f"relative errors {errors}"
