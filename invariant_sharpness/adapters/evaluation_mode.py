"""Models in the middle of their training, seen as they are when they predict."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, runtime_checkable

from invariant_sharpness.adapters.registry import backends


@runtime_checkable
class ModeBackend(Protocol):
    """A backend whose models have a mode, in which they are trained, and another one in which they predict."""

    def in_evaluation_mode(self, model: Any, /) -> AbstractContextManager[None]:
        """Put the model into the mode of prediction inside the ``with`` block, and every part of it back afterwards."""
        ...


def in_evaluation_mode(model: Any) -> AbstractContextManager[None]:
    """Put a model into the mode of prediction inside the ``with`` block; nothing happens to one that has no modes."""
    for backend in backends().values():
        if backend.accepts(model):
            return backend.in_evaluation_mode(model) if isinstance(backend, ModeBackend) else nullcontext()
    return nullcontext()
