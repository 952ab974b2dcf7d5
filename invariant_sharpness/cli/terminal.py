"""What the terminal shows: results on stdout, progress and errors on stderr, and an exit code that tells how it went."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from invariant_sharpness.errors import InvariantSharpnessError
from invariant_sharpness.evaluation.targets import TargetError
from invariant_sharpness.runtime.progress import listening

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130

_PIPED_WIDTH = 118


def console() -> Console:
    """Return the console of results; it is wide enough for every table if it is a file or a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


@contextmanager
def working() -> Generator[None]:
    """Show progress, and send what the user's code prints to stderr: stdout carries the result alone."""
    with contextlib.redirect_stdout(sys.stderr), progress_bars():
        yield


@contextmanager
def explained() -> Generator[None]:
    """Turn errors that the library raises on purpose into a message and an exit code.

    Any other error keeps its traceback: it comes from the code of the user's target, or it is a bug.
    """
    try:
        yield
    except TargetError as error:
        _stop(error, WRONG_USAGE)
    except InvariantSharpnessError as error:
        _stop(error, FAILED)
    except KeyboardInterrupt:
        _stop("interrupted", INTERRUPTED)


@contextmanager
def writing_files() -> Generator[None]:
    """Explain why a file cannot be written."""
    try:
        yield
    except OSError as error:
        _stop(f"cannot write {error.filename}: {error.strerror}", FAILED)


@contextmanager
def progress_bars() -> Generator[None]:
    """Show one bar per loop of the library while the block runs, if stderr is a terminal."""
    stderr = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[remaining]}"),
    )
    display = Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
    with display, listening(_Bars(display)):
        yield


class _Bars:
    """A listener that gives each label a bar of its own."""

    def __init__(self, display: Progress) -> None:
        self._display = display
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, label: str, done: int, total: int, gradients: float, /) -> None:
        remaining = f"about {gradients * (total - done):.0f} gradients to go" if gradients else ""
        if label not in self._tasks:
            self._tasks[label] = self._display.add_task(label, remaining=remaining)
        self._display.update(self._tasks[label], completed=done, total=total, remaining=remaining)


def _stop(message: object, code: int) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {message}", style="bold red", markup=False)
    raise typer.Exit(code) from None
