"""How a command fails: a message on stderr instead of a traceback, and an exit code."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console

from invariant_sharpness.errors import InvariantSharpnessError
from invariant_sharpness.evaluation.targets import TargetError

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


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


def _stop(message: object, code: int) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {message}", style="bold red", markup=False)
    raise typer.Exit(code) from None
