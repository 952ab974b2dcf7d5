"""The loop itself: how far it goes, whom it tells, and what it takes up again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.runtime.folder import Snapshot
from invariant_sharpness.runtime.loop import Loop, iterate, recall, tabulate
from invariant_sharpness.runtime.progress import listening
from zoo.interrupted_loops import base


@dataclass(frozen=True)
class Count:
    """A state that is nothing but its number."""

    done: int

    def save(self) -> Snapshot:
        return Snapshot({"done": np.array(self.done)})

    def restored(self, saved: Snapshot) -> Count:
        return Count(int(saved.arrays["done"]))


class Steps:
    """A step that counts how often it was taken, and says at the last one that there is nothing left."""

    def __init__(self, last: int = 100, interrupted_at: int | None = None) -> None:
        self.last, self.interrupted_at, self.taken = last, interrupted_at, 0

    def __call__(self, state: Count) -> Count | None:
        if state.done == self.interrupted_at:
            raise KeyboardInterrupt
        if state.done == self.last:
            return None
        self.taken += 1
        return Count(state.done + 1)


def loop(total: int, *settings: object) -> Loop:
    return Loop("counting", base(), settings, total=total, gradients=2.0, order=1)


@pytest.mark.parametrize(("total", "last", "expected"), [(5, 100, 5), (5, 3, 3), (0, 3, 0)])
def test_loop_ends_after_all_steps_or_when_nothing_is_left(total: int, last: int, expected: int) -> None:
    found = iterate(Steps(last), Count(0), loop(total))
    assert found == Count(expected), f"{found} instead of {expected} steps"


def test_every_step_is_reported() -> None:
    heard: list[Any] = []
    with listening(lambda *report: heard.append(report)):
        iterate(Steps(), Count(0), loop(2))
    assert heard == [("counting", done, 2, 2.0) for done in range(3)], f"{heard}"


def test_interrupted_loop_goes_on_after_the_last_whole_step(tmp_path: Path) -> None:
    oracle, rest = base(), Steps()
    with pytest.raises(KeyboardInterrupt), ish.checkpoint(tmp_path / "state", oracle):
        iterate(Steps(interrupted_at=3), Count(0), loop(5))
    with ish.checkpoint(tmp_path / "state", oracle):
        found = iterate(rest, Count(0), loop(5))
    assert (found, rest.taken) == (Count(5), 2), f"{found} with {rest.taken} more steps"


def test_state_of_more_steps_is_not_taken_up(tmp_path: Path) -> None:
    steps = Steps()
    with ish.checkpoint(tmp_path / "state", base()):
        iterate(Steps(), Count(0), loop(5))
        found = iterate(steps, Count(0), loop(3))
    assert (found, steps.taken) == (Count(3), 3), f"{found} after {steps.taken} steps"


ARRAYS = {"w": np.zeros((1, 1000))}, {"w": np.eye(1, 1000, 500)}
"""They differ where the words for long arrays do not show it."""


@pytest.mark.parametrize(("one", "other"), [("one", "two"), ARRAYS], ids=["words", "arrays"])
def test_other_settings_are_another_loop(one: Any, other: Any, tmp_path: Path) -> None:
    steps = Steps()
    with ish.checkpoint(tmp_path / "state", base()):
        iterate(Steps(), Count(0), loop(5, one))
        iterate(steps, Count(0), loop(5, other))
    assert steps.taken == 5, f"{steps.taken} steps with other settings"


def test_fewer_rows_are_the_beginning_of_more(tmp_path: Path) -> None:
    asked: list[int] = []

    def rows(block: Any) -> list[list[float]]:
        asked.extend(block)
        return [[number, number**2] for number in block]

    with ish.checkpoint(tmp_path / "state", base()):
        tables = [tabulate(loop(count), range(count), rows, together=2) for count in (5, 3, 7)]
    assert [len(table) for table in tables] == [5, 3, 7], f"{tables}"
    assert asked == list(range(7)), f"the rows {asked} were computed"
    assert tables[2].tolist() == [[number, number**2] for number in range(7)], f"{tables[2]}"


def test_what_was_computed_is_recalled_by_its_key(tmp_path: Path) -> None:
    computed: list[str] = []

    def value(key: str) -> float:
        def compute() -> Snapshot:
            computed.append(key)
            return Snapshot({"value": np.array(float(len(computed)))})

        return float(recall(loop(1), key, compute).arrays["value"])

    with ish.checkpoint(tmp_path / "state", base()):
        found = [value(key) for key in ("a", "b", "a")]
    assert (found, computed) == ([1.0, 2.0, 1.0], ["a", "b"]), f"{found} after {computed}"
