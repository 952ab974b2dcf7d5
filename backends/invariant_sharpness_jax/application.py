"""A model as a function that carries what is known of its parameters, and what it computes with besides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from invariant_sharpness.protocol import ParameterGroup


@dataclass(frozen=True, slots=True, eq=False)
class Application:
    """A pure function ``(parameters, inputs, *constants) -> outputs``, as the adapters return it.

    Parameters
    ----------
    function
        The function itself.
    groups
        Parameters whose role or axes cannot be told from their names and shapes.
    constants
        Returns trees of arrays that are not measured, such as moving statistics. They are read when a pass begins and are
        arguments of the compiled programs, so that a model which is trained on is measured as it is then. Default: none.
    """

    function: Callable[..., Any]
    groups: tuple[ParameterGroup, ...] = ()
    constants: Callable[[], tuple[Any, ...]] = tuple

    def __call__(self, parameters: Any, inputs: Any, /) -> Any:
        """Return the outputs, one row per example."""
        return self.function(parameters, inputs, *self.constants())
