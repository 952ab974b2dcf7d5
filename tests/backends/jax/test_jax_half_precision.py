"""Trees in half precision are measured as they are, and what they give is added up in single precision."""

from __future__ import annotations

from functools import cache
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness.testing import check_oracle
from invariant_sharpness_jax.layer_sites import tapped
from zoo.jax_networks import Network, cross_entropy, dense_hessian, example_gradients, random_data, random_parameters
from zoo.vectors import direction, flat

every_type = pytest.mark.parametrize(
    "dtype", [pytest.param("bfloat16"), pytest.param("float16", marks=pytest.mark.slow)]
)

ROUNDINGS = 8
"""So many units of rounding are allowed: up to three layers round, back and forth, and a ReLU near its kink may fall on the other side."""


def converted(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


@cache
def problem(dtype: str) -> tuple[Any, Any, Any, Any]:
    """An oracle, and parameters, inputs and labels in double precision with the values of the shorter type."""
    x, y = random_data(examples=32)
    half, rounded = converted(random_parameters(), dtype), converted(converted(x, dtype), jnp.float64)
    oracle = ish.oracle(Network().apply, (rounded, y), parameters=half, batch_size=7)
    return oracle, converted(half, jnp.float64), rounded, y


def assert_close(value: Any, expected: Any, dtype: str, what: str) -> None:
    error = float(np.linalg.norm(value - expected) / np.linalg.norm(expected))
    allowed = ROUNDINGS * float(jnp.finfo(dtype).eps)
    assert error <= allowed, f"{what}: relative error {error:.1e}, {allowed:.1e} allowed"


@every_type
def test_vectors_hold_the_parameters_exactly_in_single_precision(dtype: str) -> None:
    oracle, double, _, _ = problem(dtype)
    assert {array.dtype for array in oracle.parameters.arrays.values()} == {np.dtype("float32")}
    expected = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(double)])
    assert np.array_equal(flat(oracle.parameters), expected), "the parameters were rounded"


@pytest.mark.slow
@every_type
def test_derivatives_are_those_of_the_dense_hessian_in_double_precision(dtype: str) -> None:
    oracle, double, x, y = problem(dtype)
    matrix = dense_hessian(Network().apply, double, x, y, cross_entropy)
    gradients = example_gradients(Network().apply, double, x, y, cross_entropy)
    point, v, names = oracle.parameters, direction(oracle), frozenset(oracle.parameters.arrays)
    found = {
        "the gradient": (oracle.gradient(point), gradients.mean(axis=0)),
        "the product": (oracle.hessian_vector_product(point, v), matrix @ flat(v)),
        "the diagonal": (oracle.gauss_newton_diagonal(point, names), matrix.diagonal()),
        "the second moments": (oracle.gradient_second_moment(point), (gradients**2).mean(axis=0)),
    }
    for what, (vector, expected) in found.items():
        assert_close(flat(vector), expected, dtype, what)


@pytest.mark.slow
def test_normalized_sharpness_stays_the_same_under_powers_of_two() -> None:
    oracle, _, x, y = problem("bfloat16")
    half = converted(random_parameters(), jnp.bfloat16)
    rows, columns = (jnp.asarray(2.0 ** np.array(powers), jnp.bfloat16) for powers in ([3, -2, 0, 1, -3], [-1, 2, 3]))
    first, second, third = half.values()
    moved = {
        "dense_0": {"kernel": first["kernel"] * rows, "bias": first["bias"] * rows},
        "dense_1": {"kernel": second["kernel"] / rows[:, None] * columns, "bias": second["bias"] * columns},
        "dense_2": {"kernel": third["kernel"] / columns[:, None], "bias": third["bias"]},
    }
    value = ish.normalized_sharpness(oracle).value
    again = ish.normalized_sharpness(ish.oracle(Network().apply, (x, y), parameters=moved, batch_size=7)).value
    assert again == pytest.approx(value, rel=1e-12), f"moved from {value!r} to {again!r}"


@pytest.mark.slow
@every_type
def test_normalized_sharpness_is_near_that_of_the_same_parameters_in_single_precision(dtype: str) -> None:
    oracle, double, x, y = problem(dtype)
    value = ish.normalized_sharpness(oracle).value
    expected = ish.normalized_sharpness(ish.oracle(Network().apply, (x, y), parameters=double, dtype="float32")).value
    change = abs(value / expected - 1)
    assert change <= 4 * float(jnp.finfo(dtype).eps), f"{value} in {dtype}, {expected} in float32: {change:.1e}"


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "certified"), [(jax.nn.relu, 6), (jax.nn.gelu, 2)], ids=["relu", "gelu"])
@every_type
def test_what_is_certified_does_not_depend_on_the_precision(dtype: str, activation: Any, certified: int) -> None:
    _, double, x, y = problem(dtype)
    oracle = ish.oracle(Network(activation).apply, (x, y), parameters=converted(double, dtype))
    defects = curvature_defects(oracle)
    exact = exact_groups(oracle, defects)
    assert len(exact) == certified, f"certified {sorted(exact)}, defects {defects}"


class Mixed(linen.Module):
    """Parameters in single precision, products and sums in bfloat16."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.relu(linen.Conv(4, (3, 3), dtype=jnp.bfloat16)(x))
        return linen.Dense(3, dtype=jnp.bfloat16)(x.reshape(len(x), -1))


def test_parameters_that_the_model_rounds_itself_have_sites() -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4, 4, 2)))
    arrays = flax.traverse_util.flatten_dict(converted(Mixed().init(jax.random.key(0), x), jnp.float32), sep=".")
    opened = tapped(lambda a, z: Mixed().apply(flax.traverse_util.unflatten_dict(a, sep="."), z), arrays, x)
    sites = {name for layer in opened.layers for name in layer.names}
    assert sites == arrays.keys(), f"without a site: {arrays.keys() - sites}"


def lookup(parameters: Any, tokens: Any) -> Any:
    return jnp.mean(parameters["table"][tokens], axis=1) @ parameters["head"]


def shift(parameters: Any, x: Any) -> Any:
    return jnp.mean(jax.nn.relu(x[..., None] + parameters["table"][0]), axis=1) @ parameters["head"]


def in_a_loop(parameters: Any, x: Any) -> Any:
    def step(total: Any, column: Any) -> Any:
        return total + column[:, None] + parameters["table"][0], None

    start = jnp.zeros((len(x), 4), x.dtype)
    return jax.lax.scan(jax.checkpoint(step), start, x.T)[0] @ parameters["head"]


@pytest.mark.parametrize(
    "apply",
    [pytest.param(lookup, marks=pytest.mark.slow), shift, pytest.param(in_a_loop, marks=pytest.mark.slow)],
    ids=["a row of a table", "a bias", "a bias in a loop"],
)
def test_thousands_of_terms_are_added_up_whole(apply: Any) -> None:
    """In bfloat16 their sum would stand still; so JAX does it on a CPU."""
    random = np.random.default_rng(0)
    x = np.zeros((4096, 4), int) if apply is lookup else np.abs(converted(random.normal(size=(4096, 4)), jnp.bfloat16))
    y = np.zeros(4096, int)
    tree = {"table": random.normal(size=(3, 4)) + 1, "head": random.normal(size=(4, 3)) / 8}
    half = converted(tree, jnp.bfloat16)
    oracle = ish.oracle(apply, (x, y), parameters=half, batch_size=4096)
    inputs = x if apply is lookup else converted(x, jnp.float64)
    expected = jax.grad(lambda p: jnp.mean(cross_entropy(apply(p, inputs), y)))(converted(half, jnp.float64))
    gradient = oracle.to_numpy(oracle.gradient(oracle.parameters))["table"]
    assert_close(gradient, np.asarray(expected["table"]), "bfloat16", "the gradient")


@pytest.mark.slow
@every_type
def test_the_checks_pass(dtype: str) -> None:
    results = check_oracle(problem(dtype)[0], on_fail="return")
    failed = [str(result) for result in results if result.status == "failed"]
    assert not failed, "; ".join(failed)


def test_another_tree_has_to_be_in_half_precision_too() -> None:
    oracle, double, _, _ = problem("bfloat16")
    moved = oracle.from_tree(converted(double, jnp.bfloat16))
    assert np.array_equal(flat(moved), flat(oracle.parameters)), "the same tree is another vector"
    with pytest.raises(ish.InvariantSharpnessError, match=r"float64, instead of .*bfloat16"):
        oracle.from_tree(double)
