"""Progress of long loops: silent unless somebody listens.

The library reports each step through :func:`track`; who shows it (the command line, a notebook) sets
a listener for the time of a call. Nothing that is computed depends on it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Listener(Protocol):
    """Called once per step with the name of the loop, steps done, and steps in all."""

    def __call__(self, label: str, done: int, total: int, /) -> None: ...


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """Report the progress of everything inside the ``with`` block to ``listener``."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def track(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    """Yield the items and report each one that is done."""
    listener = _listener.get()
    if listener is None:
        yield from items
        return
    listener(label, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        listener(label, done, total)
