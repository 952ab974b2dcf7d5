"""The one loop of everything that iterates: it reports progress, and goes on where an interrupted run was left.

An estimator says what a step makes of a state, and how a state is written down. When to write, under which name, what to take up
again, and whom to tell are said here. As states are stored in full precision and random vectors depend on their number alone, a
resumed run gives the same bits as one in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime import checkpoints
from invariant_sharpness.runtime.folder import Snapshot
from invariant_sharpness.runtime.progress import reporter

Item = TypeVar("Item")
Numbers = npt.NDArray[np.float64]


class Iterate(Protocol):
    """What a step changes: how far it is, and all that it needs to go on."""

    @property
    def done(self) -> int:
        """Steps that were taken."""
        ...

    def save(self) -> Snapshot:
        """Write down all that the next step needs."""
        ...

    def restored(self, saved: Snapshot) -> Self:
        """Return the iterate that was written down; this one is where the loop starts, and stays as it is."""
        ...


I = TypeVar("I", bound=Iterate)  # noqa: E741


@dataclass(slots=True)
class Loop:
    """What a loop does with which oracle, and how long it takes.

    Parameters
    ----------
    kind
        What it does, in words; they are the label of its progress, too.
    oracle
        The oracle whose loss, gradient or products the steps take, at its own parameters.
    settings
        Everything else on which the iterates depend: numbers, words, vectors, and arrays on the host by name. A loop takes up no state of other settings.
    total
        Number of steps, at most. It is not one of the settings: more steps go on from fewer.
    gradients
        Cost of a step in gradients, for those who watch; zero where a step takes none of the data.
    order
        The highest derivative of the loss that the steps take. A loop of products is taken up only if the Hessian is the same.
    """

    kind: str
    oracle: CurvatureOracle
    settings: tuple[object, ...] = ()
    total: int = 1
    gradients: float = 0.0
    order: Literal[1, 2] = 2
    name: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.name = checkpoints.name_of(self.kind, self.oracle, self.settings, self.order)


def iterate(step: Callable[[I], I | None], state: I, loop: Loop) -> I:
    """Return the state after all steps of the loop, or after those until ``step`` returns None, as there is nothing left to do.

    The state is written after every step; whoever interrupts loses the step that was under way. A state of more steps
    than the loop has is not taken up.
    """
    saved = checkpoints.read(loop.name, loop.oracle)
    if saved is not None and (restored := state.restored(saved)).done <= loop.total:
        state = restored
    report = reporter(loop.kind, loop.total, loop.gradients)
    report(state.done)
    while state.done < loop.total and (following := step(state)) is not None:
        state = following
        checkpoints.write(loop.name, loop.oracle, state.save)
        report(state.done)
    return state


def recall(loop: Loop, key: str, compute: Callable[[], Snapshot]) -> Snapshot:
    """Return what was stored under this key of the loop, or compute and store it.

    For steps whose results leave memory one by one, and for those whose order is not ours.
    """
    name = f"{loop.name} {key}"
    saved = checkpoints.read(name, loop.oracle)
    if saved is None:
        saved = compute()
        checkpoints.write(name, loop.oracle, lambda: saved)
    return saved


def tabulate(
    loop: Loop,
    items: Sequence[Item],
    rows: Callable[[Sequence[Item]], Iterable[npt.ArrayLike]],
    *,
    together: int = 1,
) -> Numbers:
    """Return one row for each of the items, in order, computed for so many items ``together``.

    The loop's total is the number of items. More items go on from fewer.
    """

    def step(table: _Table) -> _Table:
        block = items[table.done : table.done + together]
        return _Table([*table.rows, *(np.asarray(row, dtype=np.float64) for row in rows(block))], table.most)

    found = iterate(step, _Table([], loop.total), loop).rows
    return np.stack(found) if found else np.zeros((0, 0))


@dataclass(frozen=True, slots=True)
class _Table:
    """The first rows of a table that gets at most so many."""

    rows: list[Numbers]
    most: int

    @property
    def done(self) -> int:
        return len(self.rows)

    def save(self) -> Snapshot:
        return Snapshot({"rows": np.stack(self.rows)})

    def restored(self, saved: Snapshot) -> _Table:
        return _Table(list(saved.arrays["rows"][: self.most]), self.most)
