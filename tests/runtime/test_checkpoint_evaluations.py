"""Loops of losses and gradients that were interrupted go on with the same bits, and so do loops on parts of the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import invariant_sharpness as ish
from invariant_sharpness.landscapes import balanced_directions, loss_landscape
from invariant_sharpness_numpy import NetworkOracle
from zoo.interrupted_loops import base

LOOPS: dict[str, Callable[[Any], Any]] = {
    "worst_case_sharpness": lambda oracle: ish.worst_case_sharpness(
        oracle, starts=3, max_iterations=8, tolerance=1e-12
    ),
    "worst_case_adaptive_sharpness": lambda oracle: ish.worst_case_adaptive_sharpness(
        oracle, norm="linf", radius=0.5, starts=6
    ),
    "expected_sharpness": lambda oracle: ish.expected_sharpness(oracle, probes=9),
    "average_adaptive_sharpness": lambda oracle: ish.average_adaptive_sharpness(oracle, probes=9, noise="uniform"),
    "posterior_sharpness": lambda oracle: ish.posterior_sharpness(oracle, lam=50.0, draws=2, max_iterations=6),
    "loss_landscape": lambda oracle: loss_landscape(oracle, balanced_directions(oracle), points=5).to_dict(),
}

OTHER_SETTINGS: dict[str, Callable[[Any], Any]] = {
    "worst_case_sharpness": lambda oracle: ish.worst_case_sharpness(
        oracle, starts=3, max_iterations=5, tolerance=1e-12
    ),
    "worst_case_adaptive_sharpness": lambda oracle: ish.worst_case_adaptive_sharpness(oracle, radius=0.5, starts=6),
    "expected_sharpness": lambda oracle: ish.expected_sharpness(oracle, probes=9, scale=0.02),
    "average_adaptive_sharpness": lambda oracle: ish.average_adaptive_sharpness(oracle, probes=9),
    "posterior_sharpness": lambda oracle: ish.posterior_sharpness(oracle, lam=40.0, draws=2, max_iterations=6),
    "loss_landscape": lambda oracle: loss_landscape(oracle, balanced_directions(oracle, seed=1), points=5).to_dict(),
}

LOST = {"posterior_sharpness": 8 + 8}
"""Evaluations of the step that is lost, where it takes many: two losses and gradients per draw, and the final draws."""


class Interruptible:
    """An oracle that somebody interrupts at a certain loss or gradient."""

    def __init__(self, base: Any, at: int | None = None) -> None:
        self._base, self._left, self.evaluations = base, at, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def loss(self, *arguments: Any) -> Any:
        return self._evaluated(self._base.loss, arguments)

    def gradient(self, *arguments: Any) -> Any:
        return self._evaluated(self._base.gradient, arguments)

    def _evaluated(self, function: Any, arguments: Any) -> Any:
        self.evaluations += 1
        if self.evaluations == self._left:
            raise KeyboardInterrupt
        return function(*arguments)


def interrupted(name: str, at: int, path: Path) -> Interruptible:
    """The oracle of a run that was broken off and is going on."""
    broken, going_on = Interruptible(base(), at), Interruptible(base())
    with pytest.raises(KeyboardInterrupt), ish.checkpoint(path, broken):
        LOOPS[name](broken)
    return going_on


@pytest.mark.parametrize("at", [4, 7, 12, 18])
@pytest.mark.parametrize("name", LOOPS)
def test_resumed_run_gives_the_same_bits(name: str, at: int, tmp_path: Path) -> None:
    expected, path = LOOPS[name](base()), tmp_path / "state"
    going_on = interrupted(name, at, path)
    with ish.checkpoint(path, going_on):
        found = LOOPS[name](going_on)
    assert found == expected, f"{found} instead of {expected}"


@pytest.mark.parametrize("name", LOOPS)
def test_at_most_one_step_is_computed_twice(name: str, tmp_path: Path) -> None:
    whole, path, at = Interruptible(base()), tmp_path / "state", 18
    LOOPS[name](whole)
    going_on = interrupted(name, at, path)
    with ish.checkpoint(path, going_on):
        LOOPS[name](going_on)
    beginning, lost = 3, LOST.get(name, 4)
    again = going_on.evaluations + at - whole.evaluations
    assert again <= 2 * beginning + lost, f"{going_on.evaluations} of {whole.evaluations} evaluations after {at}"


@pytest.mark.parametrize("name", LOOPS)
def test_finished_loop_is_only_read(name: str, tmp_path: Path) -> None:
    first, second = Interruptible(base()), Interruptible(base())
    for oracle in (first, second):
        with ish.checkpoint(tmp_path / "state", oracle):
            LOOPS[name](oracle)
    read = 3 + LOST.get(name, 0)
    assert second.evaluations <= read, f"{second.evaluations} evaluations again, of {first.evaluations}"


@pytest.mark.parametrize("name", LOOPS)
def test_other_settings_take_up_no_state(name: str, tmp_path: Path) -> None:
    oracle, expected = base(), OTHER_SETTINGS[name](base())
    with ish.checkpoint(tmp_path / "state", oracle):
        LOOPS[name](oracle)
        found = OTHER_SETTINGS[name](oracle)
    assert found == expected, f"{found} instead of {expected}"


def test_more_steps_of_an_ascent_go_on_from_fewer(tmp_path: Path) -> None:
    oracle = base()
    with ish.checkpoint(tmp_path / "state", oracle):
        ish.worst_case_sharpness(oracle, starts=1, max_iterations=3, tolerance=1e-12)
        found = ish.worst_case_sharpness(oracle, starts=2, max_iterations=9, tolerance=1e-12)
    expected = ish.worst_case_sharpness(oracle, starts=2, max_iterations=9, tolerance=1e-12)
    assert found == expected, f"{found} instead of {expected}"


@pytest.mark.parametrize("at", [3, 20, 45])
def test_minibatches_go_on_with_the_same_bits(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle, path = base(), tmp_path / "state"
    expected = ish.contrastive_ratio(oracle, minibatches=4)
    multiplied, products = NetworkOracle.hessian_vector_product, 0

    def interruptible(self: Any, parameters: Any, vector: Any) -> Any:
        nonlocal products
        products += 1
        if products == at:
            raise KeyboardInterrupt
        return multiplied(self, parameters, vector)

    monkeypatch.setattr(NetworkOracle, "hessian_vector_product", interruptible)
    with pytest.raises(KeyboardInterrupt), ish.checkpoint(path, oracle):
        ish.contrastive_ratio(oracle, minibatches=4)
    with ish.checkpoint(path, oracle):
        found = ish.contrastive_ratio(oracle, minibatches=4)
    assert found == expected, f"{found} instead of {expected}"


def test_minibatches_of_other_seeds_do_not_share_a_state(tmp_path: Path) -> None:
    oracle = base()
    with ish.checkpoint(tmp_path / "state", oracle):
        first = ish.contrastive_ratio(oracle, minibatches=4, seed=0)
        second = ish.contrastive_ratio(oracle, minibatches=4, seed=1)
    assert second == ish.contrastive_ratio(oracle, minibatches=4, seed=1), f"{second}, and {first} with the first seed"
