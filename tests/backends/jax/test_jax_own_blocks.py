"""Which parameters are in their own derivatives, against the blocks of dense second derivatives."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness_jax.own_blocks import in_their_own_derivatives
from zoo.jax_networks import convolve
from zoo.jax_smooth_networks import CHAIN, chain


def pooled(p: Any, x: Any) -> Any:
    x = jax.nn.relu(convolve(x, p["kernel"]) + p["kernel_bias"])
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jnp.max(jax.nn.leaky_relu(jnp.mean(x, axis=(1, 2)) @ p["dense"]), axis=1, keepdims=True) @ p["head"]


def gated(p: Any, x: Any) -> Any:
    x = x @ p["stem"]
    return (jax.nn.relu(x @ p["gate"]) * (x @ p["up"])) @ p["head"]


POOLED = {"kernel": (3, 3, 2, 4), "kernel_bias": (4,), "dense": (4, 3), "head": (1, 3)}
GATED = {"stem": (4, 5), "gate": (5, 6), "up": (5, 6), "head": (6, 3)}
PROBLEMS: dict[str, tuple[Any, dict[str, tuple[int, ...]], tuple[int, ...], set[str]]] = {
    "relu": (partial(chain, jax.nn.relu), CHAIN, (4,), set()),
    "gelu": (partial(chain, jax.nn.gelu), CHAIN, (4,), {"first", "first_bias", "second", "second_bias"}),
    "pooled": (pooled, POOLED, (6, 6, 2), set()),
    "gated": (gated, GATED, (4,), {"stem"}),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_only_those_with_a_block_are_differentiated_twice(kind: str) -> None:
    apply, shapes, size, expected = PROBLEMS[kind]
    random = np.random.default_rng(0)
    arrays = {name: jnp.asarray(random.normal(size=shape)) for name, shape in shapes.items()}
    x = jnp.asarray(random.normal(size=(5, *size)))
    found = in_their_own_derivatives(jax.grad(lambda a: jnp.sum(jnp.cos(jnp.arange(3.0)) * apply(a, x))), arrays)
    assert found == (expected, frozenset()), f"{found} may move their own derivatives"


def test_of_what_is_inside_of_a_loop_nothing_is_certain() -> None:
    """A ReLU recurrence: its matrix enters in every step, and what goes in once."""

    def apply(p: Any, x: Any) -> Any:
        def step(state: Any, row: Any) -> Any:
            return jax.nn.relu(row @ p["in"] + state @ p["again"]), None

        return jax.lax.scan(step, jnp.zeros((len(x), 4)), jnp.swapaxes(x, 0, 1))[0] @ p["out"]

    random = np.random.default_rng(0)
    arrays = {name: jnp.asarray(random.normal(size=(4, 4))) for name in ("in", "again", "out")}
    x = jnp.asarray(random.normal(size=(5, 3, 4)))
    found = in_their_own_derivatives(jax.grad(lambda a: jnp.sum(jnp.cos(jnp.arange(4.0)) * apply(a, x))), arrays)
    assert found.certain == frozenset()
    assert "again" in found.possible
    assert "out" not in found.possible


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gelu", "gated"])
def test_blocks_are_those_of_the_second_derivative(kind: str) -> None:
    apply, shapes, size, _ = PROBLEMS[kind]
    random = np.random.default_rng(0)
    arrays = {name: jnp.asarray(random.normal(size=shape)) for name, shape in shapes.items()}
    x, y = random.normal(size=(5, *size)), random.integers(0, 3, 5)
    oracle = ish.oracle(apply, (x, y), parameters=arrays)
    direction = oracle.from_numpy({name: random.normal(size=shape) for name, shape in shapes.items()})
    slopes, products = oracle.output_curvature(oracle.parameters, direction, 0)
    cotangents = ish.prng.cotangents(0, (5, 3))

    def value(name: str, own: Any) -> Any:
        return jnp.sum(cotangents * apply({**arrays, name: own}, x))

    for name, array in arrays.items():
        slope, product = jax.jvp(jax.grad(partial(value, name)), (array,), (direction[name],))
        for what, ours, theirs in (("slope", slopes[name], slope), ("product", products[name], product)):
            error = float(jnp.abs(ours - theirs).max())
            assert error <= 1e-12, f"the {what} of {name} is off by {error:.1e}"
