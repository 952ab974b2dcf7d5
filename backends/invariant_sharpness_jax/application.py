"""A model as a function that carries the descriptions of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from invariant_sharpness.protocol import ParameterGroup


@dataclass(frozen=True, slots=True, eq=False)
class Application:
    """A pure function ``(parameters, inputs) -> outputs``, as the adapters return it.

    Parameters
    ----------
    function
        The function itself.
    groups
        Parameters whose role or axes cannot be told from their names and shapes.
    """

    function: Callable[[Any, Any], Any]
    groups: tuple[ParameterGroup, ...] = ()

    def __call__(self, parameters: Any, inputs: Any, /) -> Any:
        """Outputs, one row per example."""
        return self.function(parameters, inputs)
