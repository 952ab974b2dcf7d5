"""A ledger that grows by one line for each network, and a run over a grid that can be killed and goes on where it stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoo_grid import Setting

Line = dict[str, Any]


def run(wanted: Sequence[Setting], line_of: Callable[[Setting], Line], ledger: Path) -> None:
    """Make the lines that the ledger lacks, in the order of the settings."""
    names = list(wanted[0].to_dict())
    done = {tuple(line[name] for name in names) for line in whole_lines(ledger)}
    missing = [setting for setting in wanted if tuple(setting.to_dict().values()) not in done]
    for number, setting in enumerate(missing, start=1):
        started = time.perf_counter()
        append(ledger, line_of(setting))
        seconds = time.perf_counter() - started
        append(ledger.with_suffix(ledger.suffix + ".seconds"), {"seconds": round(seconds, 2)})
        print(
            f"{number} of {len(missing)}: {seconds:.1f} s, {seconds * (len(missing) - number) / 3600:.2f} h to go",
            flush=True,
        )


def whole_lines(ledger: Path) -> list[Line]:
    """The lines of a ledger; one that was torn by a kill is cut off the file."""
    if not ledger.exists():
        return []
    text = ledger.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        os.truncate(ledger, len(whole))
    return [json.loads(line) for line in whole.splitlines()]


def append(file: Path, line: Line) -> None:
    """Write one line and have it on the disk before going on."""
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(line) + "\n")
        opened.flush()
        os.fsync(opened.fileno())
