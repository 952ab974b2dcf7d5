"""Steps that donate their buffers: a watched run is the same one, and what was deleted is named."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.coordinates import Moved
from invariant_sharpness.errors import ModelError
from zoo.jax_trainings import Tree, X, Y, apply, initial

optax = pytest.importorskip("optax")

OPTIMIZER = optax.inject_hyperparams(optax.adam)(learning_rate=1e-2)
METRICS = ["hessian_spectral_norm", "hessian_trace", "preconditioned_sharpness"]
DONATED = (
    r"parameter 'w1' was donated to a compiled step \(donate_argnums\).*pass the parameters that the step returned"
)


def updated(parameters: Tree, state: Any) -> tuple[Tree, Any]:
    def loss(tree: Tree) -> jax.Array:
        return optax.losses.softmax_cross_entropy_with_integer_labels(apply(tree, X), Y).mean()

    updates, state = OPTIMIZER.update(jax.grad(loss)(parameters), state, parameters)
    return optax.apply_updates(parameters, updates), state


def trained(monitor: ish.Monitor | None = None, *, donated: tuple[int, ...] = (0, 1)) -> list[bytes]:
    step_of = jax.jit(updated, donate_argnums=donated)
    parameters = initial()
    state = OPTIMIZER.init(parameters)
    for step in range(12):
        before = parameters
        parameters, state = step_of(parameters, state)
        assert all(leaf.is_deleted() == bool(donated) for leaf in before.values()), "the step gives its memory away"
        if monitor is not None:
            monitor.step(apply, parameters=parameters, step=step, optimizer=state)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((parameters, state))]


def watching() -> ish.Monitor:
    return ish.Monitor(METRICS, (X, Y), every=4)


def given_away(tree: Any) -> Any:
    """The tree, whose arrays a compiled step has deleted."""
    jax.jit(lambda leaves: jax.tree.map(lambda leaf: leaf + 1, leaves), donate_argnums=0)(tree)
    return tree


def test_a_watched_run_that_donates_ends_in_the_same_bits() -> None:
    assert trained(watching()) == trained(None)


def test_the_entries_of_a_run_that_donates_are_those_of_one_that_does_not() -> None:
    donating, keeping = watching(), watching()
    assert trained(donating) == trained(keeping, donated=())
    for one, other in zip(donating, keeping, strict=True):
        assert not one.errors, f"step {one.step}: {one.errors}"
        assert one.probe_loss == other.probe_loss
        assert one.estimates == other.estimates, f"step {one.step}: {one.estimates} and {other.estimates}"


def test_an_oracle_names_the_parameter_that_was_donated() -> None:
    tree = initial()
    oracle: Any = ish.oracle(apply, (X, Y), parameters=tree)
    point = oracle.parameters
    given_away(tree)
    with pytest.raises(ModelError, match=DONATED):
        ish.measure(oracle, "hessian_trace")
    with pytest.raises(ModelError, match=DONATED):
        oracle.loss(point)
    with pytest.raises(ModelError, match=DONATED):
        oracle.to_numpy(point)


def test_no_oracle_is_built_of_parameters_that_were_donated() -> None:
    with pytest.raises(ModelError, match=DONATED):
        ish.oracle(apply, (X, Y), parameters=given_away(initial()))


@pytest.mark.parametrize("metric", ["hessian_trace", "normalized_sharpness", "fisher_rao_norm"])
def test_an_oracle_measures_at_later_parameters_when_its_own_were_donated(metric: str) -> None:
    tree = initial()
    oracle: Any = ish.oracle(apply, (X, Y), parameters=tree)
    later = jax.tree.map(lambda leaf: 1.5 * leaf, tree)
    given_away(tree)
    moved = ish.measure(Moved(oracle, oracle.from_tree(later)), metric)[metric]
    alone = ish.measure(ish.oracle(apply, (X, Y), parameters=later), metric)[metric]
    assert moved.value == alone.value


def test_a_monitor_names_the_parameter_that_was_donated() -> None:
    monitor = ish.Monitor("hessian_trace", (X, Y), every=1)
    with pytest.raises(ModelError, match=DONATED):
        monitor.step(apply, parameters=given_away(initial()))
    assert monitor.step(apply, parameters=initial()) is not None
    entry = monitor.step(apply, parameters=given_away(initial()))
    assert entry is not None
    assert "parameter 'w1' was donated" in entry.errors["hessian_trace"]


def test_the_state_of_an_optimizer_that_was_donated_is_named() -> None:
    tree = initial()
    state = given_away(OPTIMIZER.init(tree))
    oracle: Any = ish.oracle(apply, (X, Y), parameters=tree)
    with pytest.raises(
        ModelError, match=r"the state was donated to a compiled step.*pass the state that the step returned"
    ):
        ish.optimizer_state(oracle, state)
