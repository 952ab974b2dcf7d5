"""The loss of a batch that is one example: a number that a function of the user's returns, or the mean over the batch's rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from invariant_sharpness.adapters.loss_terms import FunctionTerms, LossTerms, RowTerms
from invariant_sharpness.adapters.whole_batches import of_example
from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import FunctionLoss

Array = Any


@dataclass(frozen=True, slots=True)
class BatchTerms(FunctionTerms):
    """The terms of the mean over the rows of a batch that is one example.

    Parameters
    ----------
    rows
        The loss of the rows.
    """

    rows: LossTerms | None = None

    @property
    def description(self) -> str:
        return self.loss.description if self.rows is None else self.rows.description

    def check(self, outputs: Array, targets: Any, /) -> None:
        if self.rows is not None:
            self.rows.check(outputs[0], of_example(targets))
        FunctionTerms.check(self, outputs, targets)


def of_whole_batches(loss: LossTerms, of_function: Callable[[FunctionLoss], FunctionTerms]) -> LossTerms:
    """Return the terms of a loss of batches that are one example each.

    Parameters
    ----------
    loss
        The user's loss: a function that returns one number for a batch, or a loss of rows, whose mean is taken.
    of_function
        Makes terms of a function.
    """
    if isinstance(loss, FunctionTerms):
        return of_function(loss_of_batch(loss.loss, loss.xp))
    rows = cast("RowTerms", loss)
    made = of_function(mean_of_batch(rows.name, rows.values, rows.xp))
    return BatchTerms(made.loss, made.xp, made.row_gradient, made.row_hessian, made.array, made.losses_at, rows)


def loss_of_batch(loss: FunctionLoss, xp: Any) -> FunctionLoss:
    """Return a loss of one example from a user's function of a batch, which returns one number; of ``xp`` only ``reshape`` is needed."""

    def of_batch(outputs: Any, targets: Any) -> Any:
        value = loss.function(outputs[0], of_example(targets))
        shape = tuple(value.shape) if hasattr(value, "shape") else None
        if shape not in {(), (1,)}:
            returned = f"a {type(value).__name__}" if shape is None else f"shape {shape}"
            msg = (
                f'loss {loss.name!r} returned {returned} for a batch, but with examples="batches" it has to return one '
                f"number for all of its rows: take their mean"
            )
            raise LossError(msg)
        return xp.reshape(value, (1,))

    return _named(of_batch, loss.name)


def mean_of_batch(name: str, values: Callable[[Any, Any], tuple[Any, Any]], xp: Any) -> FunctionLoss:
    """Return the weighted mean of the losses of a batch's rows as a loss of one example; of ``xp`` only ``sum`` and ``reshape``."""

    def of_batch(outputs: Any, targets: Any) -> Any:
        losses, weights = values(outputs[0], of_example(targets))
        return xp.reshape(xp.sum(losses * weights) / xp.sum(weights), (1,))

    return _named(of_batch, name)


def _named(function: Callable[[Any, Any], Any], name: str) -> FunctionLoss:
    cast("Any", function).__name__ = name
    return FunctionLoss(function)
