"""What the callbacks of frameworks need of a monitor, which stands above the backends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from invariant_sharpness.results.estimate import Estimate


class WatchedEntry(Protocol):
    """An entry of a monitor."""

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """The values, by the name of the metric."""
        ...


class Watcher(Protocol):
    """A monitor, such as :class:`invariant_sharpness.Monitor`."""

    def is_due(self, step: int) -> bool:
        """Whether the step of this number is measured."""
        ...

    def step(
        self,
        model: Any,
        *,
        step: int | None = None,
        learning_rate: float | None = None,
        optimizer: Any = None,
        **logged: Any,
    ) -> WatchedEntry | None:
        """Measure the model if the step is due."""
        ...


def logged_values(entry: WatchedEntry | None) -> dict[str, float]:
    """What goes to the logger of a framework: each value of an entry, under ``sharpness/`` and the name of its metric."""
    return {} if entry is None else {f"sharpness/{name}": found.value for name, found in entry.estimates.items()}
