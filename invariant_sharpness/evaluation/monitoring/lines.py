"""The file of a monitor: JSON, one line for each start and for each entry. What was written stays, however the run ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from invariant_sharpness.errors import CheckpointError
from invariant_sharpness.evaluation.monitoring.entries import Entry
from invariant_sharpness.results.export import strict_json
from invariant_sharpness.runtime.files import settle

FORMAT = 1
"""Version of the lines."""

_BLOCK = 4096


def read_lines(path: Path) -> tuple[list[dict[str, Any]], list[Entry]]:
    """Read the starts and the entries. The last line counts only if it is complete: a run that was killed may leave a part of one.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or is none of a monitor; names the line.
    """
    try:
        whole, _, _ = path.read_bytes().rpartition(b"\n")
    except OSError as error:
        msg = f"the entries in {str(path)!r} could not be read: {error.strerror or error}"
        raise CheckpointError(msg) from error
    starts: list[dict[str, Any]] = []
    entries: list[Entry] = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            told = json.loads(line)
            if "monitor" in told:
                starts.append(_known(path, told))
            else:
                entries.append(Entry.from_dict(told))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, CheckpointError):
                raise
            msg = f"line {number} of {str(path)!r} is no entry of a monitor: take another path, or delete the line"
            raise CheckpointError(msg) from error
    return starts, entries


def append_line(path: Path, told: Mapping[str, Any]) -> None:
    """Write a line behind those that are there, and wait until it lies on the disk. A part of a line, without its end, is cut off first."""
    is_new = not path.exists()
    with path.open("ab") as stream:
        stream.truncate(_end_of_lines(path))
        stream.write(_line(told))
        stream.flush()
        os.fsync(stream.fileno())
    if is_new:
        settle(path.parent)


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of its own with these lines, in the place of what is there."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as stream:
        stream.writelines(map(_line, lines))
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    settle(path.parent)


def _line(told: Mapping[str, Any]) -> bytes:
    return strict_json(told, indent=None).encode() + b"\n"


def _known(path: Path, start: dict[str, Any]) -> dict[str, Any]:
    if start["monitor"] != FORMAT:
        msg = f"{str(path)!r} is of format {start['monitor']}, and this version of the library reads format {FORMAT}"
        raise CheckpointError(msg)
    return start


def _end_of_lines(path: Path) -> int:
    """The size of the file up to the end of its last complete line."""
    with path.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end:
            begin = max(end - _BLOCK, 0)
            stream.seek(begin)
            found = stream.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0
