"""How a command fails: a message on stderr instead of a traceback, and an exit code."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import typer
from rich.console import Console

from invariant_sharpness.errors import InvariantSharpnessError
from invariant_sharpness.targets import TargetError

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


@contextmanager
def explained() -> Generator[None]:
    """Turn errors that the library raises on purpose into a message and an exit code.

    Any other error keeps its traceback: it comes from the code of the user's target, or it is a bug.
    """
    try:
        yield
    except TargetError as error:
        raise _exit(error, WRONG_USAGE) from None
    except InvariantSharpnessError as error:
        raise _exit(error, FAILED) from None
    except KeyboardInterrupt:
        raise _exit("interrupted", INTERRUPTED) from None


def _exit(message: object, code: int) -> typer.Exit:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {message}", style="bold red", markup=False)
    return typer.Exit(code)
