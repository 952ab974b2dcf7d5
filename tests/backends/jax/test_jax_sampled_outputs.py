"""Sampled outputs and blocks of products in JAX: the same draws as on NumPy, and the same products as one by one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.estimators.affine_groups import MOST_OUTPUTS
from invariant_sharpness_numpy import ReluNetwork
from zoo import jax_networks  # noqa: F401 - float64


def problem(classes: int = 3, loss: str = "cross_entropy", **options: Any) -> tuple[Any, Any]:
    """The same network in JAX and on the reference backend."""
    random = np.random.default_rng(0)
    W, b = random.normal(size=(6, 4)), random.normal(size=6)
    V, c = random.normal(size=(classes, 6)), random.normal(size=classes)
    x = random.normal(size=(11, 4))
    y = random.normal(size=(11, classes)) if loss == "mse" else random.integers(0, classes, 11)
    parameters = {"0": {"kernel": W.T, "bias": b}, "1": {"kernel": V.T, "bias": c}}

    def apply(p: Any, inputs: Any) -> Any:
        return jax.nn.relu(inputs @ p["0"]["kernel"] + p["0"]["bias"]) @ p["1"]["kernel"] + p["1"]["bias"]

    ours = ish.oracle(apply, (x, y), loss=loss, parameters=parameters, **options)
    return ours, ish.oracle(ReluNetwork([W, V], [b, c]), (x, y), loss=loss)


def drawn(oracle: Any, draws: range = range(3, 7)) -> list[Any]:
    """In the order of bias and weight of each layer, weights as (outputs, inputs)."""
    names = frozenset(group.name for group in oracle.groups)
    host = oracle.to_numpy(oracle.sampled_gauss_newton_diagonal(oracle.parameters, names, draws, 5))
    layouts = {g.name: (*g.output_axes, *g.input_axes) or (0,) for g in oracle.groups}
    return [host[name].transpose(layouts[name]) for name in sorted(host)]


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_draws_are_those_of_the_reference_backend(loss: str) -> None:
    ours, theirs = problem(loss=loss, batch_size=4)
    for mine, other in zip(drawn(ours), drawn(theirs), strict=True):
        assert np.allclose(mine, other, rtol=1e-11, atol=1e-14), f"{mine} instead of {other}"


def test_many_classes_give_the_same_estimate_as_on_the_reference_backend() -> None:
    ours, theirs = (ish.normalized_sharpness(oracle, probes=16) for oracle in problem(MOST_OUTPUTS + 4))
    assert ours.method == theirs.method == "16 samples of the outputs", f"{ours} and {theirs}"
    assert ours.value == pytest.approx(theirs.value, rel=1e-9), f"{ours} and {theirs}"
    assert ours.standard_error == pytest.approx(theirs.standard_error, rel=1e-6), f"{ours} and {theirs}"


def test_products_of_a_block_are_those_of_single_vectors() -> None:
    oracle, _ = problem(batch_size=4)
    vectors = [prng.signs(oracle, 0, index) for index in range(5)]
    block = oracle.hessian_vector_products(oracle.parameters, vectors)
    for vector, product in zip(vectors, block, strict=True):
        alone = oracle.hessian_vector_product(oracle.parameters, vector)
        error = (product - alone).norm() / alone.norm()
        assert error < 1e-14, f"relative error {error:.1e}"


def test_blocks_of_one_length_are_compiled_once_for_each_shape_of_a_batch() -> None:
    traces = 0

    def apply(p: Any, inputs: Any) -> Any:
        nonlocal traces
        traces += 1
        return jnp.tanh(inputs @ p["w"])

    x, y = np.random.default_rng(0).normal(size=(8, 4)), np.arange(8) % 3
    oracle: Any = ish.oracle(apply, (x, y), parameters={"w": np.ones((4, 3))}, batch_size=4)
    vectors = [prng.signs(oracle, 0, index) for index in range(6)]
    oracle.hessian_vector_products(oracle.parameters, vectors[:3])
    before = traces
    oracle.hessian_vector_products(oracle.parameters * 2.0, vectors[3:])
    assert traces == before, f"traced {traces - before} times again"
