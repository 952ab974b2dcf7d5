"""Long runs that can be interrupted: the folder in which the loops of a ``with`` block write their states.

Nobody listens by default. A loop asks for its state when it starts, and hands it over after each step (see
:mod:`~invariant_sharpness.runtime.loop`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from os import PathLike
from pathlib import Path
from typing import TypeVar

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, innermost
from invariant_sharpness.runtime.folder import CheckpointFolder, HostSnapshot, Snapshot, on_host
from invariant_sharpness.runtime.identity import Identity, coordinates_and_operator, digest, product_digest
from invariant_sharpness.runtime.processes import Gathering, processes_of, together

__all__ = ["checkpoint", "name_of", "read", "unstored", "write"]


T = TypeVar("T")


class _Known:
    """An oracle by what it does. What costs a pass over the data is computed once, when a loop asks for it."""

    def __init__(self, oracle: CurvatureOracle, identity: Identity | None = None) -> None:
        self.oracle = oracle
        self._first_order = f"{type(oracle).__qualname__} {identity or Identity.of(oracle)}"
        self._second_order = ""

    def words(self, order: int) -> str:
        if order == 1:
            return self._first_order
        self._second_order = self._second_order or product_digest(self.oracle)
        return f"{self._first_order} {self._second_order}"


class _Run:
    """A folder, the oracle for which it was made, and the other one that was seen last."""

    def __init__(self, path: Path, oracle: CurvatureOracle) -> None:
        identity = Identity.of(oracle)
        self.processes = processes_of(oracle)
        self._folder = self._first_alone(self.processes, lambda: CheckpointFolder(path, identity))
        self._own = self._other = _Known(oracle, identity)

    def _first_alone(self, processes: Gathering, use: Callable[[], T]) -> T | None:
        """Let the first process use the folder; all learn of its errors."""
        return together(processes, lambda: use() if self.processes.rank == 0 else None, lambda _: None)[0]

    def read(self, loop: str, oracle: CurvatureOracle) -> Snapshot | None:
        """Read in the first process, and hand what it has read to the others."""
        processes = processes_of(oracle, self.processes)
        found = together(processes, lambda: None if self._folder is None else self._folder.read(loop), _itself)[1][0]
        if found is None:
            return None
        return Snapshot(found.arrays, {name: oracle.from_numpy(arrays) for name, arrays in found.vectors.items()})

    def write(self, loop: str, oracle: CurvatureOracle, snapshot: Callable[[], Snapshot]) -> None:
        """Write in the first process. All bring the vectors that are new to the host, as each may have a part of them."""
        processes, folder = processes_of(oracle, self.processes), self._folder
        if processes.size > 1 or folder is not None:
            made = snapshot()
            new = together(processes, lambda: () if folder is None else folder.new_vectors(loop, made), _itself)[1][0]
            vectors = {name: on_host(made.vectors[name], oracle) for name in new}
            stored = HostSnapshot(made.arrays, vectors, tuple(made.vectors))
            together(processes, lambda: None if folder is None else folder.write(loop, stored), lambda _: None)

    def words(self, oracle: CurvatureOracle, order: int) -> str:
        coordinates, operator = coordinates_and_operator(oracle)
        if operator is self._own.oracle:
            return f"{coordinates} {self._own.words(order)}"
        if operator is not self._other.oracle:
            self._other = _Known(operator)
        return f"{coordinates} {self._other.words(order)}"


def _itself(found: T) -> T:
    return found


_run: ContextVar[_Run | None] = ContextVar("checkpoint", default=None)


@contextmanager
def checkpoint(path: str | PathLike[str], oracle: CurvatureOracle) -> Generator[None]:
    """Store the states of all loops inside the ``with`` block in the folder ``path``, and go on from those that it holds.

    What is sampled or iterated is stored after every block of products: traces, norms, diagonals, sketches, and the
    vectors of Lanczos' method, of minibatches too. So are ascents after each step, the fit of a posterior after each evaluation,
    and the losses of perturbed parameters and of landscapes one by one. Keskar's sharpness, the KL regret and the losses of the
    fitted posterior start anew; they are short. The parameters, the loss and its gradient are stored too, and guard against
    other parameters or data; the seed and the settings of each loop belong to its state, and with other settings it starts
    anew. Loops on other oracles inside the block, such as a wrapper of your own, are told apart by their type, parameters, loss,
    gradient and one product. To get the same bits, resume within the same memory limit. The folder may be deleted when the
    run is done.

    Every file has a digest, so that one that was cut, overwritten or put in another's place is an error that names it. A process that is
    killed, or whose disk is full, leaves the last state that was written. Several processes may use one folder: each loop is stored
    by one of them, the others compute on alone, and all values are those of a process alone. Where processes have the data together, the
    first alone reads and writes, and hands what it reads to the others.

    Cost: one loss, one gradient and, if there is a loop of products, one product; the same for each other oracle; and each state
    once. On disk is what a loop has in memory: numbers for ``hutchinson_trace``, the products of a sketch (``num_matvecs // 3`` for
    ``hutch_plus_plus_trace``, ``num_matvecs // 2`` for ``xtrace``, ``num_matvecs`` for ``xdiag``), the vectors of a Krylov space,
    up to twelve vectors of a sampled diagonal, and one for each ascent. A vector is written once, and deleted when a restart
    or the end of a spectral probe takes it out of memory.

    Parameters
    ----------
    path
        The folder. It is made if it does not exist.
    oracle
        The oracle that is measured inside the block, in any coordinates.

    Raises
    ------
    CheckpointError
        If the folder belongs to other parameters or data, is none of the library's, is damaged, or cannot be read or written. Says
        which file it is, what differs, and what to do.

    Examples
    --------
    A run that was interrupted is started again with the same lines:

    >>> import tempfile
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic([[2.0, 0.0], [0.0, 3.0]], [[1.0, 1.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for _ in range(2):
    ...         with ish.checkpoint(folder, oracle):
    ...             trace = ish.hutchinson_trace(oracle, num_matvecs=4)
    >>> trace.value
    5.0
    """
    run = _Run(Path(path), innermost(oracle))
    token = _run.set(run)
    try:
        yield
    finally:
        _run.reset(token)


@contextmanager
def unstored() -> Generator[None]:
    """Neither read nor write states inside the ``with`` block: what is computed there is not what a name says."""
    token = _run.set(None)
    try:
        yield
    finally:
        _run.reset(token)


def name_of(kind: str, oracle: CurvatureOracle, settings: tuple[object, ...], order: int) -> str:
    """Say what a loop does with which matrix, at which point of which coordinates, and with which settings."""
    run = _run.get()
    if run is None:
        return kind
    values = (oracle.parameters, *settings)
    words = (_word(oracle, value) for value in values)
    return f"{kind} {run.words(oracle, order)} {' '.join(words)}"


def _word(oracle: CurvatureOracle, setting: object) -> str:
    """Say in a word what a setting is; of vectors, and of arrays by name, their digest."""
    if isinstance(setting, ParameterVector):
        return digest(oracle.to_numpy(setting))
    return digest(setting) if isinstance(setting, Mapping) else str(setting)


def read(loop: str, oracle: CurvatureOracle) -> Snapshot | None:
    """Return the snapshot in which the loop of this name was left, if it was."""
    run = _run.get()
    return None if run is None else run.read(loop, oracle)


def write(loop: str, oracle: CurvatureOracle, snapshot: Callable[[], Snapshot]) -> None:
    """Store a snapshot, which is made only if somebody wants to go on from it."""
    run = _run.get()
    if run is not None:
        run.write(loop, oracle, snapshot)
