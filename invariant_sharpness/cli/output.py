"""Where results go: tables to stdout as wide as the terminal, files to places that exist."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from invariant_sharpness.cli.bars import progress_bars

_PIPED_WIDTH = 118


def console() -> Console:
    """The console of results; wide enough for every table if it is a file or a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


@contextmanager
def working() -> Generator[None]:
    """Show progress, and send what the user's code prints to stderr: stdout carries the result alone."""
    with contextlib.redirect_stdout(sys.stderr), progress_bars():
        yield


def in_existing_folder(path: Path | None) -> Path | None:
    """Refuse a file in a folder that is not there, before anything is measured."""
    if path is not None and not path.parent.is_dir():
        msg = f"the folder {str(path.parent)!r} does not exist."
        raise typer.BadParameter(msg)
    return path
