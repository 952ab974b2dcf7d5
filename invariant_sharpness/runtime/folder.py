"""The folder of a checkpoint: one file that says whose it is, one for each loop, and one for each vector.

Files are replaced as a whole and in an order in which whoever pulls the plug leaves the old state or the new one. Where several
processes use one folder, each loop is stored by the first of them that has something to store; the others compute on alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from invariant_sharpness.errors import CheckpointError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime import files
from invariant_sharpness.runtime.identity import Arrays, Identity, listed

_IDENTITY = "identity.state"
_NAMES, _DIGESTS = "names of vectors", "digests of vectors"


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


@dataclass(frozen=True, slots=True)
class HostSnapshot:
    """What of a snapshot is on disk, or comes there.

    Parameters
    ----------
    arrays
        The arrays of the snapshot.
    vectors
        Vectors on the host, by name: of one that is written, those that are new.
    names
        The names of all vectors.
    """

    arrays: Arrays
    vectors: Mapping[str, Arrays]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _State:
    """A state on disk: the digest of its file, and those of its vectors by name."""

    digest: str = ""
    vectors: Mapping[str, str] = field(default_factory=dict)


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
        If the folder belongs to another oracle, is none of the library's, is damaged, or cannot be read or written.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path = path
        self._seen: dict[str, _State] = {}
        """The states that this run has read or written last."""
        self._require_own()
        with files.explained(path, "could not be made"):
            path.mkdir(parents=True, exist_ok=True)
        with files.exclusive(path):
            files.remove_partial_files(path)
            self._identify(identity)

    def read(self, loop: str) -> HostSnapshot | None:
        """Return the snapshot of a loop, if there is one."""
        file = self._file(loop)
        with files.exclusive(self._path):
            if not files.digest_of(file):
                return None
            arrays, digest = files.load(file)
            state = _State(digest, dict(zip(arrays[_NAMES].tolist(), arrays[_DIGESTS].tolist(), strict=True)))
            vectors = {
                name: files.load(self._file(loop, name), expected).arrays for name, expected in state.vectors.items()
            }
        self._seen[loop] = state
        del arrays[_NAMES], arrays[_DIGESTS]
        return HostSnapshot(arrays, vectors, tuple(vectors))

    def new_vectors(self, loop: str, snapshot: Snapshot) -> tuple[str, ...]:
        """Return the names of those vectors that are not on disk yet."""
        on_disk, seen = files.digest_of(self._file(loop)), self._seen.get(loop, _State())
        return tuple(name for name in snapshot.vectors if not on_disk or name not in seen.vectors)

    def write(self, loop: str, snapshot: HostSnapshot) -> None:
        """Store the new vectors first, then the file that names them, and then delete those that are left over.

        Nothing is stored if the state on disk is neither the one that this run has seen last, nor gone: another process goes on with it.
        """
        with files.exclusive(self._path):
            on_disk, seen = files.digest_of(self._file(loop)), self._seen.get(loop, _State())
            old = seen if on_disk else _State()
            is_complete = all(name in snapshot.vectors or name in old.vectors for name in snapshot.names)
            if on_disk in ("", seen.digest) and is_complete:
                self._seen[loop] = self._stored(loop, snapshot, old)

    def _stored(self, loop: str, snapshot: HostSnapshot, old: _State) -> _State:
        new = [name for name in snapshot.names if name not in old.vectors]
        stored = {name: files.store(self._file(loop, name), snapshot.vectors[name]) for name in new}
        if stored:
            files.settle(self._path)
        vectors = {name: stored.get(name) or old.vectors[name] for name in snapshot.names}
        manifest = {_NAMES: np.array(list(vectors), dtype=str), _DIGESTS: np.array(list(vectors.values()), dtype=str)}
        state = _State(files.store(self._file(loop), {**snapshot.arrays, **manifest}), vectors)
        left_over = old.vectors.keys() - vectors.keys()
        if left_over:
            files.settle(self._path)
        for name in left_over:
            files.remove(self._file(loop, name))
        return state

    def _file(self, loop: str, vector: str = "") -> Path:
        key = files.key_of(loop)
        return self._path / (f"{key} {vector}.state" if vector else f"{key}.state")

    def _require_own(self) -> None:
        """Raise if there is something else, or nothing that says whose it is; nothing was touched then."""
        with files.explained(self._path, "could not be read"):
            if not self._path.exists():
                return
            found = {file.name for file in files.foreign_files(self._path)} if self._path.is_dir() else {"a file"}
        if not found or _IDENTITY in found:
            return
        reason = "is not a checkpoint of this library: it is a file, but a checkpoint is a folder"
        if "identity.npz" in found:
            reason = "was written by version 0.1 of the library, whose checkpoints had no digests"
        elif self._path.is_dir():
            reason = f"is not a checkpoint of this library: it has {listed(sorted(found))}, but no {_IDENTITY}"
        msg = f"{str(self._path)!r} {reason}; give another path, or delete it to start anew"
        raise CheckpointError(msg)

    def _identify(self, identity: Identity) -> None:
        """Say whose folder it is, or raise if it says something else."""
        file = self._path / _IDENTITY
        if not files.digest_of(file):
            files.store(file, identity.arrays())
            return
        difference = identity.difference_from(Identity.from_arrays(files.load(file).arrays))
        if difference:
            msg = (
                f"the checkpoint {str(self._path)!r} was written for another oracle: {difference}; give another path, or "
                f"delete the folder to start anew"
            )
            raise CheckpointError(msg)


def on_host(vector: ParameterVector, oracle: CurvatureOracle) -> Arrays:
    """Return a vector with as many digits as it has: copies on the host are always in double precision."""
    types = {name: np.float32 if _is_single(vector, name) else np.float64 for name in vector.arrays}
    return {name: array.astype(types[name]) for name, array in oracle.to_numpy(vector).items()}


def _is_single(vector: ParameterVector, name: str) -> bool:
    return int(vector.xp.finfo(vector[name].dtype).bits) <= 32
