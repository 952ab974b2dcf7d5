"""A watched run of Optax ends in the same bits as one that nobody watches, and is compiled once."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import invariant_sharpness as ish
from zoo.jax_trainings import Tree, X, Y, apply, initial

optax = pytest.importorskip("optax")

OPTIMIZER = optax.inject_hyperparams(optax.adam)(learning_rate=1e-2)


def updated(parameters: Tree, state: Any, x: jax.Array, y: jax.Array) -> tuple[Tree, Any]:
    def loss(tree: Tree) -> jax.Array:
        return optax.losses.softmax_cross_entropy_with_integer_labels(apply(tree, x), y).mean()

    updates, state = OPTIMIZER.update(jax.grad(loss)(parameters), state, parameters)
    return optax.apply_updates(parameters, updates), state


def trained(monitor: ish.Monitor | None) -> list[bytes]:
    step_of = jax.jit(updated)
    parameters, key = initial(), jax.random.key(1)
    state = OPTIMIZER.init(parameters)
    for step in range(25):
        key, drawn = jax.random.split(key)
        rows = jax.random.choice(drawn, 48, (16,), replace=False)
        parameters, state = step_of(parameters, state, X[rows], Y[rows])
        if monitor is not None:
            monitor.step(apply, parameters=parameters, step=step, optimizer=state)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((parameters, state))]


def test_a_watched_run_ends_in_the_same_bits() -> None:
    metrics = ["hessian_spectral_norm", "preconditioned_sharpness"]
    monitor = ish.Monitor(metrics, (X, Y), every=10)
    assert trained(monitor) == trained(None)
    assert [entry.step for entry in monitor] == [0, 10, 20]
    assert not any(entry.errors for entry in monitor)
    assert monitor[-1].threshold == pytest.approx(38 / 1e-2, rel=1e-5)
    losses = [entry.probe_loss for entry in monitor]
    assert losses[0] > losses[1] > losses[2], "the entries follow the parameters"


def test_entries_are_what_measure_gives_at_the_same_parameters() -> None:
    monitor = ish.Monitor("hessian_trace", (X, Y), every=1)
    for factor in (1.0, 2.0):
        tree = jax.tree.map(partial(jnp.multiply, factor), initial())
        entry = monitor.step(apply, parameters=tree)
        assert entry is not None
        alone = ish.hessian_trace(ish.oracle(apply, (X, Y), parameters=tree))
        assert entry.estimates["hessian_trace"] == alone


def test_parameters_by_pattern() -> None:
    monitor = ish.Monitor("hessian_trace", (X, Y), every=1, parameters="w1")
    for factor in (1.0, 2.0):
        tree = jax.tree.map(partial(jnp.multiply, factor), initial())
        entry = monitor.step(apply, parameters=tree)
        assert entry is not None
        alone = ish.hessian_trace(ish.oracle(apply, (X, Y), parameters=(tree, "w1")))
        assert entry.estimates["hessian_trace"].value == alone.value


def test_a_function_that_computes_in_half_precision_from_some_step_on() -> None:
    monitor = ish.Monitor("hessian_trace", (X, Y), every=1)
    for dtype in (jnp.float32, jnp.bfloat16):
        monitor.step(apply, parameters=jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), initial()))
    assert [entry.signature.split("; ")[4] for entry in monitor] == ["float32", "bfloat16"]
    values = [entry.estimates["hessian_trace"].value for entry in monitor]
    assert values[1] == pytest.approx(values[0], rel=2.0**-4)
