"""What a pass over the data adds up to: sums that stay where they are, read once, and finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from math import isfinite
from operator import add
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng
from invariant_sharpness.adapters.data import batch_size, infinite_loss, positive_weight
from invariant_sharpness.adapters.engine import Arrays, Engine, Point, Sums
from invariant_sharpness.errors import DataError, ModelError, NonFiniteError


class Total(NamedTuple):
    """The sums of one pass.

    Parameters
    ----------
    arrays
        One dictionary for each vector, where the engine's tensors are.
    value
        The sum of the parts' values; 0 if none was computed.
    weight
        What the sums are divided by: the sum of the weights, which is positive, or 1 where the loss of the data is a sum.
    """

    arrays: tuple[Arrays, ...]
    value: float
    weight: float


class Piece(NamedTuple):
    """Examples that are computed together.

    Parameters
    ----------
    batch
        The examples, as the engine computes with them.
    number, start
        The number of the user's batch that they come from, and that of their first example in it.
    row
        The number of their first row of the loss in the data.
    example
        The number of their first example in the data.
    """

    batch: Any
    number: int
    start: int
    row: int
    example: int


class Place(Protocol):
    """Where in the user's data some examples come from."""

    @property
    def batch(self) -> Any: ...
    @property
    def number(self) -> int: ...
    @property
    def start(self) -> int: ...


RowLosses = Callable[[], Iterable[tuple[Place, npt.NDArray[Any]]]]
"""Reads the data once more, and returns the loss of every row."""


def in_total(engine: Engine[Any], total: tuple[Arrays, ...] | None, part: tuple[Arrays, ...]) -> tuple[Arrays, ...]:
    """Add a part; the first part starts the total, since zeros would change the signs of zeros."""
    return part if total is None else tuple(map(engine.add, total, part))


def checked_total(
    engine: Engine[Any], arrays: tuple[Arrays, ...] | None, parts: Sequence[Sums], row_losses: RowLosses
) -> Total:
    """Add up over processes, read all numbers in one transfer, and raise unless everything is finite.

    Raises
    ------
    DataError
        If there was no batch, or all weights are zero.
    NonFiniteError
        If the loss of an example, or a derivative, is NaN or infinite; names the example or the parameter.
    """
    if arrays is None:
        msg = "the data yielded no batch on this pass"
        raise DataError(msg)
    reduced = tuple(engine.all_reduce(one) for one in arrays)
    numbers = [[part.weight for part in parts], [part.value for part in parts if part.value is not None]]
    weights, values, finite = engine.read((*numbers, [engine.finite(one) for one in reduced]))
    weight, value = engine.all_reduce((_in_order(weights), _in_order(values)))
    if not isfinite(value):
        raise _infinite_value(row_losses())
    _check_finite(engine, reduced, finite)
    divisor = positive_weight(weight)
    return Total(reduced, value, divisor if engine.reduction == "mean" else 1.0)


def _in_order(numbers: Sequence[float]) -> float:
    """The sum from left to right: ``sum`` compensates rounding from Python 3.12 on, and gives other bits there."""
    return float(reduce(add, numbers, 0.0))


def _check_finite(engine: Engine[Any], arrays: Sequence[Arrays], finite: Sequence[npt.NDArray[Any]]) -> None:
    for one, flags in zip(arrays, finite, strict=True):
        for name, is_finite in zip(one, np.atleast_1d(flags), strict=True):
            if not is_finite:
                raise engine.infinite_derivative(name)


def _infinite_value(rows: Iterable[tuple[Place, npt.NDArray[Any]]]) -> NonFiniteError:
    """The error that names the first example whose loss is not finite; positions of an example count as it."""
    for place, losses in rows:
        wrong = np.flatnonzero(~np.isfinite(losses))
        if len(wrong):
            example = place.start + int(wrong[0]) * batch_size(place.batch) // len(losses)
            return infinite_loss(example, place.number, float(losses[wrong[0]]))
    return NonFiniteError("a sum over the examples is NaN or infinite, although the loss of every example is finite")


def depends(engine: Engine[Any], point: Point[Any], along: Arrays, batches: Iterable[Any]) -> bool:
    """Whether any output depends on any parameter here, to first order; stops at the first batch in which one does."""
    for batch in batches:
        slopes, _ = point.output_curvature(along, partial(prng.cotangents, 0), batch)
        if any(array.any() for array in engine.to_numpy(engine.portable(slopes)).values()):
            return True
    return False


def constant_outputs() -> ModelError:
    """The error for a model whose outputs depend on no parameter."""
    msg = (
        "no output depends on any of the measured parameters: all derivatives are zero. Does the forward pass detach them "
        "(no_grad, detach, stop_gradient, integer weights)? Then there is nothing to measure"
    )
    return ModelError(msg)
