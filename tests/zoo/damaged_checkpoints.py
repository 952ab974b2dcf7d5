"""What can happen to a checkpoint on disk: each kind of damage, to a file of a loop, of a vector, or of the oracle."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

KINDS = {
    "identity": re.compile(r"identity\.state"),
    "loop": re.compile(r"[0-9a-f]{32}\.state"),
    "vector": re.compile(r"[0-9a-f]{32} .*\.state"),
}


def file_of(folder: Path, kind: str, number: int = 0) -> Path:
    return sorted(file for file in folder.iterdir() if KINDS[kind].fullmatch(file.name))[number]


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def cut_in_its_line(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


def longer(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-200] ^= 1
    file.write_bytes(content)


def with_arrays(file: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Other arrays under the line of the old ones, as somebody may write who edits them."""
    line, _, content = file.read_bytes().partition(b"\n")
    with np.load(io.BytesIO(content)) as stored:
        arrays = dict(stored)
    change(arrays)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    file.write_bytes(line + b"\n" + stream.getvalue())


def without_a_member(file: Path) -> None:
    with_arrays(file, lambda arrays: arrays.popitem())


def with_nan(file: Path) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        name = next(iter(arrays))
        arrays[name] = np.full(arrays[name].shape, np.nan)

    with_arrays(file, spoil)


def with_one_row(file: Path) -> None:
    with_arrays(file, lambda arrays: arrays.update({k: a[:1] for k, a in arrays.items() if a.ndim}))


def with_a_header_of_two_tebibytes(file: Path) -> None:
    line, _, content = file.read_bytes().partition(b"\n")
    shape = b"(274877906944,), }"
    file.write_bytes(line + b"\n" + re.sub(rb"\([\d, ]*\), } {8}", lambda m: shape.ljust(len(m[0])), content))


def of_another_version(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"checkpoint 2", b"checkpoint 3", 1))


def of_somebody_else(file: Path) -> None:
    file.write_bytes(b"PK\x03\x04" + b"precious " * 99)


def random_bytes(file: Path) -> None:
    file.write_bytes(np.random.default_rng(0).bytes(5000))


def replaced_by_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replaced_by_another(file: Path) -> None:
    other = next(each for each in sorted(file.parent.iterdir()) if each.suffix == ".state" and each != file)
    shutil.copy(other, file)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "emptied": (emptied, "is empty"),
    "cut": (cut, r"has \d+ bytes of arrays, but \d+ were written"),
    "cut in its line": (cut_in_its_line, "does not begin as a file of a checkpoint does"),
    "longer": (longer, r"has \d+ bytes of arrays, but \d+ were written"),
    "a flipped bit": (flipped, r"has the SHA-256 digest \w+\.\.\., but \w+\.\.\. was written"),
    "a member is missing": (without_a_member, r"has \d+ bytes of arrays, but \d+ were written"),
    "NaN": (with_nan, "has "),
    "one row": (with_one_row, "has "),
    "2 TiB": (with_a_header_of_two_tebibytes, "has "),
    "another version": (of_another_version, "is of format 3, and this version of the library reads format 2"),
    "somebody else's": (of_somebody_else, "does not begin as a file of a checkpoint does"),
    "random bytes": (random_bytes, "does not begin as a file of a checkpoint does"),
    "a folder": (replaced_by_a_folder, r"could not be read \(Is a directory\)"),
    "swapped": (replaced_by_another, r"was written as '.+\.state'"),
}
"""Each kind of damage, with what the message says of it."""
