"""Long runs that can be interrupted: the state of every loop, on disk after each step.

A loop asks for its state when it starts, and hands it over after each step. Nobody listens by default. As states are
stored in full precision, and draws depend on their number alone, a resumed run gives the same bits as one in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from os import PathLike
from pathlib import Path

from invariant_sharpness.errors import CheckpointError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.folder import CheckpointFolder, State
from invariant_sharpness.runtime.identity import Identity, digest, innermost, wrappers

__all__ = ["State", "admit", "checkpoint", "keep", "loop_name", "resumed"]


class _Run:
    """A folder, the oracles that are known to be those that it was written for, and parts of them by name."""

    def __init__(self, folder: CheckpointFolder, oracle: CurvatureOracle) -> None:
        self.folder = folder
        self._oracles = [(innermost(oracle), "")]

    def admit(self, part: CurvatureOracle, name: str) -> None:
        """Know this part of the data by name."""
        self._oracles.append((innermost(part), name))

    def name_of(self, oracle: CurvatureOracle) -> str:
        """Which part it is, or nothing for all; raise unless it has the same parameters and data."""
        found = innermost(oracle)
        for known, name in self._oracles:
            if found is known:
                return name
        difference = Identity.of(found).difference_from(self.folder.identity)
        if difference:
            msg = f"this checkpoint is for another oracle: {difference}; open one of its own for each oracle"
            raise CheckpointError(msg)
        self.admit(found, "")
        return ""


_run: ContextVar[_Run | None] = ContextVar("checkpoint", default=None)


@contextmanager
def checkpoint(path: str | PathLike[str], oracle: CurvatureOracle) -> Generator[None]:
    """Keep the states of all loops inside the ``with`` block in the folder ``path``, and go on from those that it holds.

    What is sampled or iterated is kept after every block of products: traces, norms, diagonals, sketches, and the
    vectors of Lanczos' method, of minibatches too. So are ascents after each step, the fit of a posterior after each evaluation,
    and the losses of perturbed parameters and of landscapes one by one. Keskar's sharpness, the KL regret and the losses of the
    fitted posterior start anew; they are short. The parameters, the loss and its gradient are stored too, and guard against
    other parameters or data; the seed and the settings of each loop belong to its state, and with other settings it starts
    anew. To get the same bits, resume within the same memory limit. The folder may be deleted when the run is done.

    Cost: one loss and one gradient, and each state once. On disk is what a loop has in memory: numbers for
    ``hutchinson_trace``, the products of a sketch (``products // 3`` for ``hutch_plus_plus_trace``, ``products // 2`` for ``xtrace``,
    ``products`` for ``xdiag``), the vectors of a Krylov space, ten copies of the groups of a sampled diagonal, and a vector for each ascent. A vector is
    written once, and deleted when a restart or the end of a spectral probe takes it out of memory.

    Raises
    ------
    CheckpointError
        If the folder belongs to other parameters or data, and names what differs; or if it is none of the library's.
    """
    base = innermost(oracle)
    token = _run.set(_Run(CheckpointFolder(Path(path), base, Identity.of(base)), base))
    try:
        yield
    finally:
        _run.reset(token)


def resumed(loop: str) -> State | None:
    """The state in which the loop was left, if it was."""
    run = _run.get()
    return None if run is None else run.folder.read(loop)


def keep(loop: str, state: Callable[[], State]) -> None:
    """Store the state of the loop, if somebody wants to go on from it."""
    run = _run.get()
    if run is not None:
        run.folder.write(loop, state())


def loop_name(kind: str, oracle: CurvatureOracle, point: ParameterVector, *settings: object) -> str:
    """What a loop does with which matrix, at which point of which coordinates, and with which settings.

    Raises
    ------
    CheckpointError
        If the oracle is another one than that of the checkpoint.
    """
    run = _run.get()
    if run is None:
        return kind
    words = (digest(oracle.to_numpy(s)) if isinstance(s, ParameterVector) else str(s) for s in (point, *settings))
    return f"{kind} {run.name_of(oracle)} {wrappers(oracle)} {' '.join(words)}"


def admit(part: CurvatureOracle, whole: CurvatureOracle, name: str) -> None:
    """Let loops on a part of the data go on from the checkpoint of the whole; the name says which part it is.

    Raises
    ------
    CheckpointError
        If the whole is not the oracle of the checkpoint.
    """
    run = _run.get()
    if run is not None:
        run.admit(part, f"{run.name_of(whole)} {name}")
