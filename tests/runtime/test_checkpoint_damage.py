"""Damage of every kind is one error that says which file, what differs, and what to do; what it says to do helps."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import CheckpointError
from invariant_sharpness.runtime import files
from zoo.damaged_checkpoints import DAMAGES, KINDS, file_of
from zoo.interrupted_loops import LOOPS, Interruptible, base

LOOP = LOOPS["eigenpairs"]


def run(path: Path, at: int | None = None) -> Any:
    oracle = Interruptible(base(), at)
    with ish.checkpoint(path, oracle):
        return LOOP(oracle)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A folder with a loop that was interrupted, and its vectors."""
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        run(path, at=8)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_the_advice_helps(damage: str, kind: str, stored: Path) -> None:
    spoil, words = DAMAGES[damage]
    file = file_of(stored, kind)
    spoil(file)
    with pytest.raises(CheckpointError, match=words) as raised:
        run(stored)
    message = str(raised.value)
    assert repr(file.name)[1:-1] in message, f"the file is not named: {message}"
    if damage == "a folder":
        return
    if advised := re.search(r"delete the files that begin with (\w+) ", message):
        for each in stored.glob(f"{advised[1]}*"):
            each.unlink()
    else:
        assert kind == "identity", message
        assert "delete the folder to start all anew" in message, message
        for each in stored.iterdir():
            each.unlink()
    assert run(stored) == LOOP(base_alone()), "another value after doing what the message says"


def base_alone() -> Interruptible:
    return Interruptible(base())


def test_every_flipped_bit_of_a_file_is_seen(stored: Path) -> None:
    file = file_of(stored, "loop")
    content = file.read_bytes()
    for place in (*range(content.index(b"\n") + 1), *range(200, len(content), 97)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=re.escape(file.name)):
            files.load(file)


def test_file_cut_at_any_byte_is_seen(stored: Path) -> None:
    file = file_of(stored, "vector")
    content = file.read_bytes()
    for length in (*range(200), *range(200, len(content), 53)):
        file.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="is damaged"):
            files.load(file)


def test_vector_of_another_state_is_refused(stored: Path) -> None:
    """It is whole and has the right name, but it is not the one that the state was written with."""
    file = file_of(stored, "vector")
    arrays = files.load(file).arrays
    files.store(file, {name: 2 * array for name, array in arrays.items()})
    with pytest.raises(CheckpointError, match=r"is of another state: its digest is"):
        run(stored)


def test_missing_array_is_named(tmp_path: Path) -> None:
    file = tmp_path / "loop.state"
    files.store(file, {"one": np.zeros(2)})
    with pytest.raises(CheckpointError, match=r"'loop.state' has no array 'two', but only 'one'"):
        files.load(file).arrays["two"]


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file": (lambda path: path.write_text("precious"), "is not a checkpoint of this library: it is a file"),
    "another folder": (
        lambda path: (path.mkdir(), (path / "notes.txt").write_text("precious")),
        r"is not a checkpoint of this library: it has notes\.txt, but no identity\.state",
    ),
    "version 0.1": (
        lambda path: (path.mkdir(), (path / "identity.npz").write_bytes(b"PK")),
        "was written by version 0.1 of the library",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_checkpoint_is_refused_and_kept(name: str, tmp_path: Path) -> None:
    make, words = REFUSED[name]
    make(tmp_path / "state")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(CheckpointError, match=words), ish.checkpoint(tmp_path / "state", base()):
        pass
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_folder_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with (
        pytest.raises(CheckpointError, match=r"could not be (made|read) \(Not a directory\): give another folder"),
        ish.checkpoint(tmp_path / "file" / "state", base()),
    ):
        pass


SYSTEM = {
    errno.ENOSPC: "free some space and run the same lines again",
    errno.EDQUOT: "free some space and run the same lines again",
    errno.EACCES: "give a folder in which you may read and write",
    errno.EROFS: "give a folder in which you may read and write",
    errno.EIO: "give another folder",
}


@pytest.mark.parametrize("number", SYSTEM, ids=[errno.errorcode[n] for n in SYSTEM])
@pytest.mark.parametrize("call", ["fsync", "open"])
def test_error_of_the_system_is_explained_and_the_state_goes_on(
    number: int, call: str, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the third state from now, or the folder cannot be written."""
    calls, original = 0, getattr(os, call)

    def failing(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise OSError(number, os.strerror(number), str(stored))
        return original(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(files.os, call, failing)
        with pytest.raises(CheckpointError, match=re.escape(SYSTEM[number])) as raised:
            run(stored)
        assert str(stored) in str(raised.value), raised.value
        assert LOOP(base_alone()) == LOOP(base_alone()), "no value without a checkpoint"
    assert not list(stored.glob("*.partial")), "what could not be written takes space"
    assert run(stored) == LOOP(base_alone())
