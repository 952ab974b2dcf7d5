"""A user's own loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Literal

from invariant_sharpness.errors import LossError

BY_BATCHES = 'pass examples="batches" if a whole batch is one example'


@dataclass(frozen=True, slots=True)
class FunctionLoss:
    """A function ``(outputs, targets) -> one loss per example``, which an adapter differentiates; all weights are one.

    Parameters
    ----------
    function
        The function.
    reduction
        Whether the loss of the data is the mean of the examples' losses, or their sum.

    Examples
    --------
    >>> def hinge(outputs, targets): ...
    >>> FunctionLoss(hinge).name
    'hinge'
    """

    function: Callable[[Any, Any], Any]
    reduction: Literal["mean", "sum"] = "mean"

    @property
    def name(self) -> str:
        """The name in messages."""
        return name_of(self.function)

    @property
    def description(self) -> str:
        """The name, and whether the loss is summed, for reports. What the function computes is not looked at."""
        return f"{self.name}(summed over the data)" if self.reduction == "sum" else self.name

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
            raise LossError(f"{msg}; or {BY_BATCHES}" if shape == () else msg)


@dataclass(frozen=True, slots=True)
class PerExample:
    """A framework's own loss without a reduction, averaged over all axes but that of the examples, or summed.

    Parameters
    ----------
    function
        ``(outputs, targets)`` to losses of shape ``(n, ...)``.
    reduction
        Over the other axes.

    Examples
    --------
    >>> import numpy as np
    >>> PerExample(lambda outputs, targets: (outputs - targets) ** 2)(np.array([[1.0, 3.0]]), np.zeros((1, 2))).tolist()
    [5.0]
    """

    function: Callable[[Any, Any], Any]
    reduction: Literal["mean", "sum"] = "mean"

    @property
    def __name__(self) -> str:
        return name_of(self.function)

    def __call__(self, outputs: Any, targets: Any) -> Any:
        losses = self.function(outputs, targets)
        if len(losses.shape) < 2:
            return losses
        rows = losses.reshape(losses.shape[0], -1)
        return rows.mean(1) if self.reduction == "mean" else rows.sum(1)


def name_of(function: Any) -> str:
    """Return the name of a function, also behind partial arguments, or that of an object's type."""
    if isinstance(function, partial):
        return name_of(function.func)
    return getattr(function, "__name__", type(function).__name__)


def check_order(function: Any) -> None:
    """Raise if a function takes the targets first, as those of Keras do: in the other order it has other values, and no error.

    Raises
    ------
    LossError
        Says how to pass it.
    """
    named = function.func if isinstance(function, partial) else function
    module = getattr(named, "__module__", None) or ""
    if module.split(".")[0] in ("keras", "tf_keras", "tensorflow") or takes_targets_first(function):
        msg = (
            f"the loss {name_of(function)!r} takes (targets, outputs), as in Keras, but it would be called with (outputs, targets): pass "
            f"lambda outputs, targets: loss(targets, outputs), with one loss per example"
        )
        raise LossError(msg)


def takes_targets_first(function: Any) -> bool:
    """Whether the first argument of a function has the name of targets in Keras."""
    try:
        first = next(iter(signature(function).parameters), None)
    except (TypeError, ValueError):
        return False
    return first == "y_true"
