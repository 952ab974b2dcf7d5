"""The one checked way from what users have to an oracle: everything that can be wrong with data and outputs is found here, and named."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.alone import Evaluate, check_half, check_later
from invariant_sharpness.adapters.data import (
    PASS_SEED,
    Batch,
    Dataset,
    batch_size,
    calling_model,
    check_inputs,
    check_outputs,
    checked_dataset,
    digests,
    in_batch,
    no_examples,
)
from invariant_sharpness.adapters.engine import Array, Engine, Point
from invariant_sharpness.adapters.whole_batches import Examples, batches_of
from invariant_sharpness.errors import DataError
from invariant_sharpness.runtime.exclusive import exclusive
from invariant_sharpness.runtime.processes import ALONE, Processes, together
from invariant_sharpness.runtime.progress import track

CheckFirst = Callable[[Engine[Any], Evaluate, Any, Array], None]
"""Looks at the model once more on the first batch, whose outputs are given."""


def as_it_is(dataset: Dataset[Any]) -> Dataset[Any]:
    """Return a data set whose batches are arranged for nobody."""
    return dataset


@exclusive()
def checked_data(
    engine: Engine[Any],
    data: Any,
    *,
    batch_size: int = 256,
    microbatch: int | None = None,
    max_examples: int | None = None,
    examples: Examples = "rows",
    advice: str = "Check what the model takes and returns",
    check_first: CheckFirst = check_half,
    processes: Processes = ALONE,
    arranged: Callable[[Dataset[Any]], Dataset[Any]] = as_it_is,
) -> tuple[Dataset[Any], int]:
    """Make the user's data a data set that does not change, and look at every batch once.

    Parameters
    ----------
    engine
        The model with its loss.
    data, batch_size, microbatch, max_examples
        As users give them.
    examples
        Whether an example is a row of a batch, or a batch is one example, which the engine is given with an axis of length one
        before all others.
    advice
        What to do where model and data do not fit together.
    check_first
        Another look at the model on the first batch; by default, whether half of it has the same outputs.
    processes
        Those that have the data together, of which ``data`` is the part of this one.
    arranged
        What is done to the data set before any batch is looked at, for processes that have to run the model equally often.

    Returns
    -------
    tuple
        The data set, and the largest number of outputs of one example.

    Raises
    ------
    ModelError, DataError, LossError, NonFiniteError
        Each names the batch or example that is wrong, and what to do.
    """

    def look() -> tuple[Dataset[Any], _Seen]:
        batches = batches_of(data, batch_size, microbatch, examples, max_examples)
        dataset = checked_dataset(
            batches,
            engine.batch,
            engine.host_rows,
            lambda seed: engine.random_state(seed, batches.source),
            may_be_empty=processes.size > 1,
        )
        with engine.random_state(PASS_SEED, batches.source):
            dataset = arranged(dataset)
        return dataset, _seen(engine, dataset, advice, check_first, with_others=processes.size > 1)

    (dataset, _), seen = together(processes, look, lambda found: found[1])
    _check_parts(seen)
    return dataset, max(one.outputs for one in seen)


class _Seen(NamedTuple):
    """What all processes learn of the examples of one: how many there are, how many outputs one has at most, and a digest of each."""

    examples: int
    outputs: int
    digests: tuple[npt.NDArray[np.uint64], ...]


def _seen(
    engine: Engine[Any], dataset: Dataset[Any], advice: str, check_first: CheckFirst, *, with_others: bool
) -> _Seen:
    """Look at every batch; at the examples themselves, if other processes may have the same."""
    seen = _Seen(0, 0, ())
    source = dataset.batches.source
    with engine.random_state(PASS_SEED, source), engine.at(engine.native(engine.parameters())) as point:
        for number, batch in enumerate(track(dataset, "looking at the data", dataset.batches.known)):
            width = _check_batch(engine, point, batch, number, advice, check_first)
            found = (digests(engine.host_rows(batch)),) if with_others else ()
            seen = _Seen(seen.examples + batch_size(batch), max(seen.outputs, width), (*seen.digests, *found))
    return seen


def _check_parts(seen: Sequence[_Seen]) -> None:
    """Raise if there is no example, or processes that should have different parts of the data have the same one.

    Warns if some examples are in two parts. Where a part has an example twice the data have, too, and nothing is said.
    """
    parts = [one for one in seen if one.examples]
    if not parts:
        raise no_examples()
    found = [np.unique(np.concatenate(one.digests)) for one in parts if one.digests]
    if len(found) > 1 and all(np.array_equal(found[0], other) for other in found[1:]):
        msg = (
            f"{len(parts)} processes have the same {parts[0].examples} examples, but each has to give its own part of the data, "
            f"such as x[rank::{len(seen)}] and y[rank::{len(seen)}]"
        )
        raise DataError(msg)
    _warn_of_overlap(parts, found)


def _warn_of_overlap(parts: Sequence[_Seen], found: Sequence[npt.NDArray[np.uint64]]) -> None:
    own = sum(map(len, found))
    repeated = own - len(np.unique(np.concatenate(found))) if found else 0
    if repeated and own == sum(len(array) for part in parts for array in part.digests):
        warnings.warn(
            f"{repeated} of the examples are in the parts of several processes, and count as often: give each process examples of its own. A list "
            f"of the batches of a DistributedSampler repeats some; pass the loader itself",
            stacklevel=2,
        )


def _check_batch(
    engine: Engine[Any], point: Point[Any], batch: Any, number: int, advice: str, check_first: CheckFirst
) -> int:
    """The number of outputs per example of a batch that can be measured on."""
    check_inputs(engine.inspected(batch), number)

    def evaluate(examples: Any) -> tuple[Array, Array]:
        with calling_model(examples.inputs if isinstance(examples, Batch) else examples, number, advice):
            return point.evaluate(examples)

    outputs, targets = evaluate(batch)
    check_outputs(engine.inspected(outputs), batch_size(batch), number)
    with in_batch(number):
        engine.check_loss(outputs, targets)
    if number == 0:
        check_first(engine, evaluate, batch, outputs)
    else:
        with in_batch(number):
            check_later(engine, evaluate, batch, outputs)
    return prod(outputs.shape[1:])
