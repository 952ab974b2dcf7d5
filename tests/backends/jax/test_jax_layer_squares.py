"""Squared gradients at the sites of a program, against Jacobians of every example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from invariant_sharpness_jax.layer_sites import tapped
from invariant_sharpness_jax.layer_squares import ProductSums
from invariant_sharpness_jax.room import room_within_limit
from zoo import jax_networks  # noqa: F401 - float64

EXAMPLES, TERMS = 5, 2

Model = tuple[Callable[[Any, Any], Any], dict[str, Any], Any]


def random(seed: int, *shape: int) -> Any:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def by_name(tree: Any) -> tuple[dict[str, Any], Callable[[dict[str, Any]], Any]]:
    """Random arrays in the form of a tree, and the way back to it."""
    leaves, structure = jax.tree.flatten(tree)
    names = [str(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    arrays = {name: random(seed, *leaf.shape) for seed, (name, leaf) in enumerate(zip(names, leaves, strict=True))}
    return arrays, lambda a: jax.tree.unflatten(structure, [a[name] for name in names])


class Convolutions(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.relu(linen.BatchNorm(use_running_average=True)(linen.Conv(4, (3, 3), strides=2)(x)))
        x = linen.relu(linen.Conv(6, (2, 2), feature_group_count=2, kernel_dilation=2)(x))
        x = linen.LayerNorm()(linen.ConvTranspose(4, (2, 2), strides=(2, 2))(x))
        x = linen.relu(linen.Dense(5)(x.reshape(len(x), -1, 4)))
        return linen.Dense(3)(linen.DenseGeneral((2, 3))(x).reshape(len(x), -1))


def linen_model() -> Model:
    module, x = Convolutions(), random(0, EXAMPLES, 8, 8, 2)
    variables = module.init(jax.random.key(0), x)
    arrays, tree = by_name(variables["params"])
    return lambda a, z: module.apply({**variables, "params": tree(a)}, z), arrays, x


def equinox_model() -> Model:
    keys = jax.random.split(jax.random.key(0), 3)
    first, second = eqx.nn.Conv2d(2, 4, 3, key=keys[0]), eqx.nn.Linear(16, 3, key=keys[1])
    layers = [first, eqx.nn.Lambda(jax.nn.relu), eqx.nn.Lambda(jnp.ravel), second, eqx.nn.MLP(3, 2, 4, 1, key=keys[2])]
    dynamic, static = eqx.partition(eqx.nn.Sequential(layers), eqx.is_array)
    arrays, tree = by_name(dynamic)
    return lambda a, z: jax.vmap(eqx.combine(tree(a), static))(z), arrays, random(1, EXAMPLES, 2, 4, 4)


def plain_model() -> Model:
    """A gain, a transposed matrix, and a scalar."""

    def apply(a: Any, x: Any) -> Any:
        return ((x @ a["w"]) * a["gain"] + x @ a["transposed"].T) * 2 - a["shift"]

    arrays = {"w": random(0, 4, 3), "gain": random(1, 3), "transposed": random(2, 3, 4), "shift": jnp.asarray(0.5)}
    return apply, arrays, random(3, EXAMPLES, 4)


MODELS = {"linen": linen_model, "equinox": equinox_model, "plain": plain_model}


def squares(model: Model, signs: Any, cotangents: Any) -> dict[str, Any]:
    """By the sites."""
    apply, arrays, x = model
    opened = tapped(apply, arrays, x)
    sums = ProductSums(opened.layers, opened.met, arrays, room_within_limit())
    totals = sums.start()
    for s, c in zip(signs, cotangents, strict=True):
        deltas = opened.pullback(c)
        totals = sums.add(totals, s, deltas, deltas)
    return sums.finish(totals)


@pytest.mark.parametrize(
    "kind", [pytest.param("linen", marks=pytest.mark.slow), pytest.param("equinox", marks=pytest.mark.slow), "plain"]
)
def test_every_parameter_has_a_site_and_the_squares_of_its_jacobian(kind: str) -> None:
    apply, arrays, x = model = MODELS[kind]()
    shape = apply(arrays, x).shape
    signs, cotangents = random(7, TERMS, EXAMPLES), random(8, TERMS, *shape)
    jacobians = jax.jacrev(lambda a: apply(a, x))(arrays)
    found = squares(model, signs, cotangents)
    assert found.keys() == arrays.keys(), f"without a site: {arrays.keys() - found.keys()}"
    for name, J in jacobians.items():
        rows = J.reshape(EXAMPLES, -1, *arrays[name].shape)
        gradients = jnp.einsum("knm,nm...->kn...", cotangents.reshape(TERMS, EXAMPLES, -1), rows)
        expected = jnp.einsum("kn,kn...->...", signs, gradients**2)
        error = float(jnp.abs(found[name] - expected).max() / jnp.abs(expected).max())
        assert error < 1e-13, f"{name}: relative error {error:.1e}"


@pytest.mark.parametrize(
    "apply",
    [
        lambda a, x: x @ a["w"] + (x**2) @ a["w"],
        lambda a, x: x @ jnp.tanh(a["w"]),
        lambda a, x: x @ (a["w"] * 2),
        lambda a, x: x @ a["w"] + jnp.sum(a["w"]),
        lambda a, x: x @ (a["w"] / jnp.sum(a["w"])),
    ],
    ids=["tied", "bent", "scaled", "used twice", "normalized"],
)
def test_parameters_that_are_used_otherwise_have_no_site(apply: Any) -> None:
    opened = tapped(apply, {"w": random(0, 4, 3)}, random(1, EXAMPLES, 4))
    assert not opened.layers, f"{opened.layers}"


def test_axis_that_is_as_long_as_the_batch_by_chance_is_no_site() -> None:
    def apply(a: Any, x: Any) -> Any:
        tokens_first = jnp.swapaxes(x, 0, 1)
        return jnp.sum(tokens_first @ a["w"], axis=0)

    arrays = {"w": random(0, 4, 3)}
    assert not tapped(apply, arrays, random(1, EXAMPLES, EXAMPLES, 4)).layers
    assert not tapped(apply, arrays, random(1, EXAMPLES, EXAMPLES + 1, 4)).layers


@pytest.mark.slow
def test_outputs_are_those_of_the_model() -> None:
    apply, arrays, x = linen_model()
    opened = tapped(apply, arrays, x)
    assert jnp.array_equal(opened.outputs, apply(arrays, x))
