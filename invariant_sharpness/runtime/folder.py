"""The folder of a checkpoint: one file that says whose it is, one for each loop, and one for each vector."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import CheckpointError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.identity import Arrays, Identity

_IDENTITY = "identity.npz"
_NAMES = "names of vectors"


@dataclass(frozen=True, slots=True)
class State:
    """From what a loop can go on.

    Parameters
    ----------
    arrays
        On the host; they are written anew at every step.
    vectors
        They are written once: in one loop a name stands for the same vector for ever.
    """

    arrays: Arrays = field(default_factory=dict)
    vectors: Mapping[str, ParameterVector] = field(default_factory=dict)


class CheckpointFolder:
    """The states of all loops, written so that whoever pulls the plug finds the old one or the new one.

    Parameters
    ----------
    path
        It is made if it does not exist.
    oracle
        Whose vectors are stored.
    identity
        Of the oracle.

    Raises
    ------
    CheckpointError
        If the folder belongs to another oracle, or is none of the library's.
    """

    def __init__(self, path: Path, oracle: CurvatureOracle, identity: Identity) -> None:
        self.identity = identity
        self._path = path
        self._oracle = oracle
        self._names: dict[str, list[str]] = {}
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            self._require_same()
        else:
            path.mkdir(parents=True, exist_ok=True)
            self._store(path / _IDENTITY, identity.arrays())

    def read(self, loop: str) -> State | None:
        """The state of a loop, if there is one."""
        file = self._file(loop)
        if not file.exists():
            return None
        arrays = self._load(file)
        self._names[loop] = arrays.pop(_NAMES).tolist()
        vectors = {name: self._oracle.from_numpy(self._load(self._file(loop, name))) for name in self._names[loop]}
        return State(arrays, vectors)

    def write(self, loop: str, state: State) -> None:
        """Store a state: first its new vectors, then the file that names them. Then delete what it no longer has."""
        written = self._names.get(loop, [])
        for name in state.vectors.keys() - set(written):
            self._store(self._file(loop, name), self._compact(state.vectors[name]))
        names = list(state.vectors)
        self._store(self._file(loop), {**state.arrays, _NAMES: np.array(names, dtype=str)})
        self._names[loop] = names
        for name in set(written) - state.vectors.keys():
            self._file(loop, name).unlink(missing_ok=True)

    def _file(self, loop: str, vector: str = "") -> Path:
        key = hashlib.sha256(loop.encode()).hexdigest()[:32]
        return self._path / (f"{key} {vector}.npz" if vector else f"{key}.npz")

    def _compact(self, vector: ParameterVector) -> Arrays:
        """As many digits as the vector has: copies on the host are always in double precision."""
        types = {name: np.float32 if self._single(vector, name) else np.float64 for name in vector.arrays}
        return {name: array.astype(types[name]) for name, array in self._oracle.to_numpy(vector).items()}

    def _single(self, vector: ParameterVector, name: str) -> bool:
        return int(vector.xp.finfo(vector[name].dtype).bits) <= 32

    def _store(self, file: Path, arrays: Arrays) -> None:
        partial = file.with_name(file.name + ".partial")
        given: dict[str, Any] = {f"array {name}": array for name, array in arrays.items()}
        with partial.open("wb") as stream:
            np.savez(stream, **given)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)

    def _load(self, file: Path) -> dict[str, npt.NDArray[Any]]:
        try:
            with np.load(file, allow_pickle=False) as stored:
                return {key.removeprefix("array "): stored[key] for key in stored.files}
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise CheckpointError(self._foreign(error)) from error

    def _require_same(self) -> None:
        try:
            written = Identity.from_arrays(self._load(self._path / _IDENTITY))
        except KeyError as error:
            raise CheckpointError(self._foreign(error)) from error
        difference = self.identity.difference_from(written)
        if difference:
            msg = (
                f"the checkpoint {str(self._path)!r} was written for another oracle: {difference}; give another path, or "
                f"delete the folder to start anew"
            )
            raise CheckpointError(msg)

    def _foreign(self, error: Exception) -> str:
        return (
            f"{str(self._path)!r} is not a checkpoint of this library, or a part of it is missing ({error}): give another "
            f"path, or delete it to start anew"
        )
