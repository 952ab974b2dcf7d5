"""A user's own loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from invariant_sharpness.errors import LossError


@dataclass(frozen=True, slots=True)
class FunctionLoss:
    """A function ``(outputs, targets) -> one loss per example``, which an adapter differentiates; all weights are one.

    Parameters
    ----------
    function
        The function.

    Examples
    --------
    >>> def hinge(outputs, targets): ...
    >>> FunctionLoss(hinge).name
    'hinge'
    """

    function: Callable[[Any, Any], Any]

    @property
    def name(self) -> str:
        """The name in messages and reports."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def check_losses(self, losses: Any, array: type[Any], examples: int) -> None:
        """Raise unless the function returned an ``array`` with one loss for each of ``examples`` examples.

        Raises
        ------
        LossError
            Says what it returned, and what it has to return.
        """
        shape = tuple(losses.shape) if isinstance(losses, array) else None
        if shape != (examples,):
            returned = f"a {type(losses).__name__}" if shape is None else f"shape {shape}"
            msg = (
                f"loss {self.name!r} returned {returned} for {examples} examples, but it has to return one loss per "
                f'example, shape {(examples,)}: use reduction="none", and sum or average over all axes but the first'
            )
            raise LossError(msg)
