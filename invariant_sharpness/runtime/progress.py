"""Progress of long loops: silent unless somebody listens.

The library reports each step; who shows it (the command line, a notebook) sets a listener for the time of a call. Nothing that
is computed depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Listener(Protocol):
    """Called once per step with the name of the loop, steps done, steps in all, and what a step costs in gradients."""

    def __call__(self, label: str, done: int, total: int, gradients: float, /) -> None: ...


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """Report the progress of everything inside the ``with`` block to ``listener``."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def reporter(label: str, total: int, gradients: float = 0.0) -> Callable[[int], None]:
    """Return what tells the listener of this moment that so many of ``total`` steps are done.

    ``gradients`` is the cost of a step, zero where it takes none of the data. A ``total`` of zero is not known, and counts as what is done.
    """
    listener = _listener.get()
    if listener is None:
        return lambda done: None  # noqa: ARG005
    return lambda done: listener(label, done, max(total, done), gradients)


def track(items: Iterable[Item], label: str, total: int, gradients: float = 0.0) -> Iterator[Item]:
    """Yield the items and report each one that is done; ``gradients`` is the cost of one, zero where it is none of data."""
    report = reporter(label, total, gradients)
    report(0)
    for done, item in enumerate(items, start=1):
        yield item
        report(done)
