"""The promise of the library on JAX functions: normalized metrics survive a rescaling of units and of filters."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import invariant_sharpness as ish
from invariant_sharpness.symmetries import chain_rescalings, unit_count
from zoo.invariant_metrics import INVARIANT, relative_change
from zoo.jax_networks import SIZES, Network, convolve, random_data, random_parameters

SEEDS = st.integers(0, 2**16)


def factors(count: int) -> st.SearchStrategy[Any]:
    """Powers of two, by which nothing is rounded."""
    return st.lists(st.integers(-12, 12), min_size=count, max_size=count).map(lambda e: np.ldexp(1.0, np.array(e)))


@cache
def perceptron() -> Any:
    return ish.oracle(Network().apply, random_data(), parameters=random_parameters())


def assert_invariant(oracle: Any, point: ish.ParameterVector, moved: ish.ParameterVector) -> None:
    losses = oracle.loss(point), oracle.loss(moved)
    assert losses[0] == losses[1], f"the loss moved from {losses[0]!r} to {losses[1]!r}"
    for name, metric in INVARIANT.items():
        values = metric(ish.Moved(oracle, point)).value, metric(ish.Moved(oracle, moved)).value
        assert relative_change(*values) <= 1e-10, f"{name} moved from {values[0]!r} to {values[1]!r}"


@pytest.mark.slow
@given(seed=SEEDS, scale=factors(sum(SIZES[1:-1])))
def test_normalized_metrics_survive_a_rescaling_of_rows_and_columns(seed: int, scale: Any) -> None:
    oracle = perceptron()
    point = moved = oracle.from_tree(random_parameters(seed=seed))
    position = 0
    for rescaling in chain_rescalings(oracle.groups):
        count = unit_count(oracle.groups, rescaling)
        moved, position = rescaling.apply(oracle, moved, scale[position : position + count]), position + count
    assert position == len(scale), f"{position} units were rescaled"
    assert_invariant(oracle, point, moved)


CHANNELS, POSITIONS = (2, 3, 4), 4
"""Of the images and of the two convolutions; and how many positions are left of an image."""


def filters(tree: Any, x: Any) -> Any:
    for name in ("first", "second"):
        x = jax.nn.relu(convolve(x, tree[name]["kernel"]) + tree[name]["bias"])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.reshape(len(x), -1) @ tree["head"]["kernel"] + tree["head"]["bias"]


def random_filters(seed: int) -> Any:
    random = np.random.default_rng(seed)
    shapes = {
        "first": (3, 3, CHANNELS[0], CHANNELS[1]),
        "second": (3, 3, CHANNELS[1], CHANNELS[2]),
        "head": (POSITIONS * CHANNELS[2], 3),
    }
    return {
        name: {"kernel": random.normal(size=shape), "bias": random.normal(size=shape[-1])}
        for name, shape in shapes.items()
    }


def rescaled(tree: Any, scale: Any) -> Any:
    """Each filter times its factor; what reads its channel, at every position that was flattened, divided by it."""
    first, second = scale[: CHANNELS[1]], scale[CHANNELS[1] :]
    return {
        "first": {"kernel": tree["first"]["kernel"] * first, "bias": tree["first"]["bias"] * first},
        "second": {
            "kernel": tree["second"]["kernel"] * second / first[:, None],
            "bias": tree["second"]["bias"] * second,
        },
        "head": {
            "kernel": tree["head"]["kernel"] / np.tile(second, POSITIONS)[:, None],
            "bias": tree["head"]["bias"],
        },
    }


@cache
def convolutional() -> Any:
    random = np.random.default_rng(5)
    data = random.normal(size=(6, 8, 8, CHANNELS[0])), random.integers(0, 3, 6)
    return ish.oracle(filters, data, parameters=random_filters(0))


@pytest.mark.slow
@given(seed=SEEDS, scale=factors(sum(CHANNELS[1:])))
def test_normalized_metrics_survive_a_rescaling_of_filters(seed: int, scale: Any) -> None:
    oracle, tree = convolutional(), random_filters(seed)
    assert_invariant(oracle, oracle.from_tree(tree), oracle.from_tree(rescaled(tree, scale)))
