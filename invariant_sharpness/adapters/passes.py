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
from invariant_sharpness.adapters.data import Batches, batch_size, has_examples, infinite_loss, positive_weight
from invariant_sharpness.adapters.engine import Arrays, Engine, Point, Sums
from invariant_sharpness.errors import DataError, ModelError, NonFiniteError, ProcessError
from invariant_sharpness.runtime.processes import Processes, everywhere, together
from invariant_sharpness.runtime.progress import reporter


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


class Told(NamedTuple):
    """What those who watch the progress learn of a pass that takes long: its name, and what it costs in gradients."""

    label: str
    gradients: float

    def reporter(self, batches: Batches) -> Callable[[int], None]:
        """Return what reports that so many examples are done, of all if these lie in memory."""
        total = sum(map(batch_size, filter(has_examples, batches))) if batches.static else 0
        report = reporter(self.label, total, self.gradients / max(total, 1))
        report(0)
        return report


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


class Partial(NamedTuple):
    """What a pass over the examples of one process adds up to.

    Parameters
    ----------
    arrays
        One dictionary for each vector; None if the process has no example for it.
    parts
        The other sums of each piece.
    """

    arrays: tuple[Arrays, ...] | None
    parts: Sequence[Sums] = ()

    def names(self) -> list[list[str]] | None:
        """Return which groups have arrays, for each vector."""
        return None if self.arrays is None else [list(one) for one in self.arrays]


def added(
    processes: Processes, engine: Engine[Any], compute: Callable[[], Partial], asked: Callable[[], str] = str
) -> Partial:
    """Compute on every process, and add the arrays over all of them; the other sums stay those of this one.

    Parameters
    ----------
    processes
        Those that have the data together.
    engine
        The model with its loss.
    compute
        Adds up over the examples of this process.
    asked
        Says in a few words what the sums depend on, beside the data.

    Raises
    ------
    ProcessError
        If the processes do not compute the same.
    InvariantSharpnessError
        What one of them raises.
    """
    partial, told_with_words = together(processes, compute, lambda found: (found.names(), asked()))
    told = [names for names, _ in told_with_words]
    names = next((one for one in told if one is not None), None)
    if processes.size == 1 or names is None:
        return partial
    if any(one not in (None, names) for one in told) or len({words for _, words in told_with_words}) > 1:
        raise different_arguments()
    holders = [one is not None for one in told]
    arrays = partial.arrays or _placeholders(engine, names)
    return Partial(
        tuple({name: processes.add(array, holders) for name, array in one.items()} for one in arrays), partial.parts
    )


def different_arguments() -> ProcessError:
    """The error for processes that call functions with different arguments."""
    msg = "the processes compute different things: call the same functions with the same arguments, such as the same seed, on all of them"
    return ProcessError(msg)


def _placeholders(engine: Engine[Any], names: Sequence[Sequence[str]]) -> tuple[Arrays, ...]:
    """Arrays of the right shapes, for a process that has no example."""
    arrays = engine.native(engine.parameters())
    return tuple({name: arrays[name] for name in one} for one in names)


def checked_total(processes: Processes, engine: Engine[Any], sums: Partial, row_losses: RowLosses) -> Total:
    """Add up the numbers over processes, read all of them in one transfer, and raise unless everything is finite.

    Parameters
    ----------
    processes
        Those that have the data together.
    engine
        The model with its loss.
    sums
        Arrays that are added over processes already, and this process's other sums.
    row_losses
        Reads the losses of this process once more.

    Raises
    ------
    DataError
        If there was no batch, or all weights are zero.
    NonFiniteError
        If the loss of an example, or a derivative, is NaN or infinite; names the example or the parameter.
    """
    if sums.arrays is None:
        msg = "the data yielded no batch on this pass"
        raise DataError(msg)
    numbers = [[part.weight for part in sums.parts], [part.value for part in sums.parts if part.value is not None]]
    weights, values, finite = engine.read((*numbers, [engine.finite(one) for one in sums.arrays]))
    of_processes = processes.gather((_in_order(weights), _in_order(values)))
    weight, value = (_in_order(column) for column in zip(*of_processes, strict=True))
    if not isfinite(value):
        raise _infinite_value(processes, row_losses)
    _check_finite(engine, sums.arrays, finite)
    divisor = positive_weight(weight)
    return Total(sums.arrays, value, divisor if engine.reduction == "mean" else 1.0)


def _in_order(numbers: Sequence[float]) -> float:
    """The sum from left to right: ``sum`` compensates rounding from Python 3.12 on, and gives other bits there."""
    return float(reduce(add, numbers, 0.0))


def _check_finite(engine: Engine[Any], arrays: Sequence[Arrays], finite: Sequence[npt.NDArray[Any]]) -> None:
    for one, flags in zip(arrays, finite, strict=True):
        for name, is_finite in zip(one, np.atleast_1d(flags), strict=True):
            if not is_finite:
                raise engine.infinite_derivative(name)


def _infinite_value(processes: Processes, row_losses: RowLosses) -> NonFiniteError:
    """The error that names the first example whose loss is not finite."""
    found = everywhere(processes, lambda: _first_infinite(row_losses()))
    for rank, message in enumerate(found):
        if message:
            return NonFiniteError(message if processes.size == 1 else f"process {rank}: {message}")
    return NonFiniteError("a sum over the examples is NaN or infinite, although the loss of every example is finite")


def _first_infinite(rows: Iterable[tuple[Place, npt.NDArray[Any]]]) -> str:
    """Say which example has a loss that is not finite, if there is one; positions of an example count as it."""
    for place, losses in rows:
        wrong = np.flatnonzero(~np.isfinite(losses))
        if len(wrong):
            example = place.start + int(wrong[0]) * batch_size(place.batch) // len(losses)
            return str(infinite_loss(example, place.number, float(losses[wrong[0]])))
    return ""


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
