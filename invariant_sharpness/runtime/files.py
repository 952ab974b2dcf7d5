"""The files of a checkpoint: each is whole or refused by name, is replaced as a whole, and has one writer at a time.

A file is one line, which says what follows, and the arrays in NumPy's format. The line has a digest of what follows and the name of the
file, so that whatever was cut, overwritten or put into another's place is seen before NumPy reads any of it.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import secrets
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows: processes that share a folder are not kept apart there
    fcntl = None  # type: ignore[assignment]

_FORMAT = 2
_LONGEST_LINE = 1000
_LINE = re.compile(rb"invariant-sharpness checkpoint (\d{1,9}), sha256 ([0-9a-f]{64}), (\d{1,18}) bytes, file (.+)\n")
_LOCK, _KEY = "lock", 32
_WRITING = re.compile(r"writing-\w+\.partial")

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StoredArrays(dict[str, npt.NDArray[Any]]):
    """The arrays of a file, by name; one that is not there is an error that names the file."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], file: Path) -> None:
        super().__init__(arrays)
        self._file = file

    def __missing__(self, name: str) -> npt.NDArray[Any]:
        raise damaged(self._file, f"has no array {name!r}, but only {', '.join(map(repr, self)) or 'none'}")


class StoredFile(NamedTuple):
    """What a file holds, and the digest by which it is told from others."""

    arrays: StoredArrays
    digest: str


class _Line(NamedTuple):
    digest: str
    size: int


def store(file: Path, arrays: Mapping[str, npt.ArrayLike]) -> str:
    """Replace the file as a whole, and return its digest. Whatever happens on the way, the old one is there or the new one."""
    stream = io.BytesIO()
    given: dict[str, Any] = {f"array {name}": array for name, array in arrays.items()}
    np.savez(stream, **given)
    content = stream.getbuffer()
    digest = hashlib.sha256(content).hexdigest()
    line = f"invariant-sharpness checkpoint {_FORMAT}, sha256 {digest}, {len(content)} bytes, file {file.name}\n"
    with explained(file, "could not be written"):
        _replace(file, line.encode(), content)
    return digest


def load(file: Path, expected: str = "") -> StoredFile:
    """Return what was stored, if it has the ``expected`` digest; any, if that is empty.

    Raises
    ------
    CheckpointError
        If the file is not as it was written; says what differs.
    """
    with explained(file, "could not be read"), file.open("rb") as stream:
        line = _parsed(file, stream.readline(_LONGEST_LINE))
        size = os.fstat(stream.fileno()).st_size - stream.tell()
        if size != line.size:
            raise damaged(file, f"has {size} bytes of arrays, but {line.size} were written")
        content = stream.read()
    digest = hashlib.sha256(content).hexdigest()
    if digest != line.digest:
        raise damaged(file, f"has the SHA-256 digest {digest[:12]}..., but {line.digest[:12]}... was written")
    if expected and digest != expected:
        raise damaged(
            file, f"is of another state: its digest is {digest[:12]}..., and that of the state {expected[:12]}..."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        return StoredFile(StoredArrays({key.removeprefix("array "): found[key] for key in found.files}, file), digest)


def digest_of(file: Path) -> str:
    """Return the digest that the file says it has, without reading further; nothing if there is no file."""
    with explained(file, "could not be read"):
        if not file.exists():
            return ""
        with file.open("rb") as stream:
            return _parsed(file, stream.readline(_LONGEST_LINE)).digest


@contextmanager
def exclusive(folder: Path) -> Generator[None]:
    """Let one process or thread at a time read or write in the folder. The lock ends with the process, however it ends."""
    with explained(folder / _LOCK, "could not be opened"):
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def foreign_files(folder: Path) -> Iterator[Path]:
    """Yield all but what may lie in a folder that has no state yet: the lock, and what a killed process was writing."""
    return (file for file in folder.iterdir() if file.name != _LOCK and not _WRITING.fullmatch(file.name))


def remove_partial_files(folder: Path) -> None:
    """Delete what killed processes were writing; whoever holds the lock knows that nobody writes now."""
    for file in folder.iterdir():
        if _WRITING.fullmatch(file.name):
            remove(file)


def remove(file: Path) -> None:
    """Delete a file, if it is there."""
    with explained(file, "could not be deleted"):
        file.unlink(missing_ok=True)


def settle(folder: Path) -> None:
    """Let what was replaced survive a loss of power before anything that relies on it is done."""
    with suppress(OSError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def explained(path: Path, what: str) -> Generator[None]:
    """Turn an error of the system into one that says what is the matter with which file, why, and what to do."""
    try:
        yield
    except OSError as error:
        msg = f"the checkpoint's {str(path)!r} {what} ({error.strerror or error}): {_advice(path, error)}"
        raise CheckpointError(msg) from error


def damaged(file: Path, what: str) -> CheckpointError:
    """Return the error for a file that is not as it was written."""
    key, of_loop = file.name[:_KEY], re.match(rf"[0-9a-f]{{{_KEY}}}[ .]", file.name)
    loop = f"the files that begin with {key} to start this loop anew, or " if of_loop else ""
    msg = f"the checkpoint {str(file.parent)!r} is damaged: {file.name!r} {what}; delete {loop}the folder to start all anew"
    return CheckpointError(msg)


def key_of(loop: str) -> str:
    """Return what the names of a loop's files begin with."""
    return hashlib.sha256(loop.encode()).hexdigest()[:_KEY]


def _advice(path: Path, error: OSError) -> str:
    if error.errno in _FULL:
        return (
            "free some space and run the same lines again, which go on from the last state that was written; or measure "
            "without a checkpoint, which gives the same value"
        )
    if isinstance(error, FileNotFoundError):
        return f"a part of the checkpoint {str(path.parent)!r} is missing; delete the folder to start anew"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return "give a folder in which you may read and write"
    return "give another folder"


def _parsed(file: Path, line: bytes) -> _Line:
    found = _LINE.fullmatch(line)
    if found is None:
        raise damaged(file, "is empty" if not line else "does not begin as a file of a checkpoint does")
    version, digest, size, name = (part.decode(errors="replace") for part in found.groups())
    if int(version) != _FORMAT:
        raise damaged(file, f"is of format {int(version)}, and this version of the library reads format {_FORMAT}")
    if name != file.name:
        raise damaged(file, f"was written as {name!r}")
    return _Line(digest, int(size))


def _replace(file: Path, line: bytes, content: memoryview) -> None:
    partial = file.with_name(f"writing-{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as stream:
            stream.write(line)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
