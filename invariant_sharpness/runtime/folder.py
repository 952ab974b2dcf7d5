"""The folder of a checkpoint: one file that says whose it is, one for each loop, and one for each vector.

Files are replaced as a whole and in an order in which whoever pulls the plug leaves the old state or the new one.
"""

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
class Snapshot:
    """What a loop needs to go on.

    Parameters
    ----------
    arrays
        Arrays on the host, which are written anew at every step.
    vectors
        Vectors of the loop's oracle. Each is written once: in one loop a name stands for the same vector for ever. One
        that a later snapshot no longer has is deleted.
    """

    arrays: Arrays = field(default_factory=dict)
    vectors: Mapping[str, ParameterVector] = field(default_factory=dict)


class CheckpointFolder:
    """The snapshots of all loops, by the names of the loops.

    Parameters
    ----------
    path
        The folder; it is made if it does not exist.
    identity
        The identity of the oracle for which it is or was made.

    Raises
    ------
    CheckpointError
        If the folder belongs to another oracle, or is none of the library's.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self._identity = identity
        self._path = path
        self._names: dict[str, list[str]] = {}
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            self._require_same()
        else:
            path.mkdir(parents=True, exist_ok=True)
            self._store(path / _IDENTITY, identity.arrays())

    def read(self, loop: str, oracle: CurvatureOracle) -> Snapshot | None:
        """Return the snapshot of a loop on this oracle, if there is one."""
        file = self._file(loop)
        if not file.exists():
            return None
        arrays = self._load(file)
        self._names[loop] = arrays.pop(_NAMES).tolist()
        vectors = {name: oracle.from_numpy(self._load(self._file(loop, name))) for name in self._names[loop]}
        return Snapshot(arrays, vectors)

    def write(self, loop: str, oracle: CurvatureOracle, snapshot: Snapshot) -> None:
        """Store the new vectors first, then the file that names them, and then delete those that are left over."""
        written = self._names.get(loop, [])
        for name in snapshot.vectors.keys() - set(written):
            self._store(self._file(loop, name), _compact(snapshot.vectors[name], oracle))
        names = list(snapshot.vectors)
        self._store(self._file(loop), {**snapshot.arrays, _NAMES: np.array(names, dtype=str)})
        self._names[loop] = names
        for name in set(written) - snapshot.vectors.keys():
            self._file(loop, name).unlink(missing_ok=True)

    def _file(self, loop: str, vector: str = "") -> Path:
        key = hashlib.sha256(loop.encode()).hexdigest()[:32]
        return self._path / (f"{key} {vector}.npz" if vector else f"{key}.npz")

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
        difference = self._identity.difference_from(written)
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


def _compact(vector: ParameterVector, oracle: CurvatureOracle) -> Arrays:
    """As many digits as the vector has: copies on the host are always in double precision."""
    types = {name: np.float32 if _is_single(vector, name) else np.float64 for name in vector.arrays}
    return {name: array.astype(types[name]) for name, array in oracle.to_numpy(vector).items()}


def _is_single(vector: ParameterVector, name: str) -> bool:
    return int(vector.xp.finfo(vector[name].dtype).bits) <= 32
