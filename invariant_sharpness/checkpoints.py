"""Long runs that can be interrupted: the state of every loop, on disk after each step.

A loop asks for its state when it starts, and hands it over after each step. Nobody listens by default. As states are
stored in full precision, and draws depend on their number alone, a resumed run gives the same bits as one in one go.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import CheckpointError
from invariant_sharpness.protocol import CoordinateOracle, CurvatureOracle
from invariant_sharpness.vector import ParameterVector

State = Mapping[str, npt.NDArray[Any]]
"""Arrays by name, from which a loop can go on."""


@dataclass
class _File:
    """The states of all loops, in one file."""

    path: Path
    fingerprint: str
    states: dict[str, State] = field(default_factory=dict)

    def write(self) -> None:
        """Replace the file at once: whoever pulls the plug finds the old one or the new one."""
        arrays: dict[str, Any] = {"fingerprint": np.array(self.fingerprint)}
        arrays |= {f"{loop}\n{name}": array for loop, state in self.states.items() for name, array in state.items()}
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("wb") as stream:
            np.savez(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.path)


_file: ContextVar[_File | None] = ContextVar("checkpoint", default=None)


@contextmanager
def checkpoint(path: str | os.PathLike[str], oracle: CurvatureOracle) -> Generator[None]:
    """Keep the states of all loops inside the ``with`` block in the file ``path``, and go on from those that it holds.

    Sampled traces, norms and diagonals are kept after every block of products. A fingerprint of the parameters, the loss and
    its gradient guards against other parameters or data, and the seed and the settings of each loop belong to its
    state. The file may be deleted when the run is done. Cost: one loss and one gradient, and for each block the file, which is as
    large as up to ten copies of the sampled groups.

    Raises
    ------
    CheckpointError
        If the file belongs to other parameters or data, or is none of the library's.
    """
    file = _File(Path(path), _fingerprint(oracle))
    if file.path.exists():
        file.states = _read(file)
    token = _file.set(file)
    try:
        yield
    finally:
        _file.reset(token)


def resumed(loop: str) -> State | None:
    """The state in which the loop was left, if it was."""
    file = _file.get()
    return None if file is None else file.states.get(loop)


def keep(loop: str, state: Callable[[], State]) -> None:
    """Store the state of the loop, if somebody wants to go on from it."""
    file = _file.get()
    if file is not None:
        file.states[loop] = state()
        file.write()


def loop_name(kind: str, oracle: CurvatureOracle, point: ParameterVector, *settings: object) -> str:
    """What a loop does with which matrix, at which point of which coordinates, and with which settings."""
    return f"{kind} {_wrappers(oracle)} {_digest(oracle.to_numpy(point))} {' '.join(map(str, settings))}"


def _wrappers(oracle: CurvatureOracle) -> str:
    """The types of an oracle and of those beneath it: at the same point they may stand for different matrices."""
    name = type(oracle).__name__
    return f"{name} {_wrappers(oracle.base)}" if isinstance(oracle, CoordinateOracle) else name


def _fingerprint(oracle: CurvatureOracle) -> str:
    """The same for the same groups, parameters, loss and gradient, bit by bit."""
    point = oracle.parameters
    found = {"loss": np.array(oracle.loss(point)), **oracle.to_numpy(oracle.gradient(point))}
    return f"{_digest(oracle.to_numpy(point))} {_digest(found)}"


def _digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    found = hashlib.sha256()
    for name, array in arrays.items():
        found.update(f"{name} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _read(file: _File) -> dict[str, State]:
    states: dict[str, dict[str, npt.NDArray[Any]]] = {}
    try:
        with np.load(file.path, allow_pickle=False) as stored:
            written_for = str(stored["fingerprint"])
            for key in stored.files:
                if key != "fingerprint":
                    loop, name = key.split("\n")
                    states.setdefault(loop, {})[name] = stored[key]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        msg = f"{str(file.path)!r} is not a checkpoint of this library ({error}): give another path, or delete the file"
        raise CheckpointError(msg) from error
    if written_for != file.fingerprint:
        msg = (
            f"the checkpoint {str(file.path)!r} was written for other parameters or other data: give another path, or delete "
            f"the file to start anew"
        )
        raise CheckpointError(msg)
    return dict(states)
