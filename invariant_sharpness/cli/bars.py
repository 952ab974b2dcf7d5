"""Progress bars on stderr."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from invariant_sharpness.runtime.progress import listening


@contextmanager
def progress_bars() -> Generator[None]:
    """Show one bar per loop of the library while the block runs, if stderr is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[remaining]}"),
    )
    display = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
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
