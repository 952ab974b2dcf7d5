"""The one checked way from what users have to an oracle: everything that can be wrong with data and outputs is found here, and named."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from invariant_sharpness.adapters.alone import Evaluate, check_half
from invariant_sharpness.adapters.data import (
    PASS_SEED,
    Batch,
    Dataset,
    batch_size,
    calling_model,
    check_inputs,
    check_outputs,
    checked_dataset,
    in_batch,
)
from invariant_sharpness.adapters.engine import Array, Engine, Point
from invariant_sharpness.adapters.whole_batches import Examples, batches_of
from invariant_sharpness.runtime.exclusive import exclusive

CheckFirst = Callable[[Engine[Any], Evaluate, Any, Array], None]
"""Looks at the model once more on the first batch, whose outputs are given."""


@exclusive()
def checked_data(
    engine: Engine[Any],
    data: Any,
    *,
    batch_size: int = 256,
    microbatch: int | None = None,
    examples: Examples = "rows",
    advice: str = "Check what the model takes and returns",
    check_first: CheckFirst = check_half,
) -> tuple[Dataset[Any], int]:
    """Make the user's data a data set that does not change, and look at every batch once.

    Parameters
    ----------
    engine
        The model with its loss.
    data, batch_size, microbatch
        As users give them.
    examples
        Whether an example is a row of a batch, or a batch is one example, which the engine is given with an axis of length one
        before all others.
    advice
        What to do where model and data do not fit together.
    check_first
        Another look at the model on the first batch; by default, whether half of it has the same outputs.

    Returns
    -------
    tuple
        The data set, and the largest number of outputs of one example.

    Raises
    ------
    ModelError, DataError, LossError, NonFiniteError
        Each names the batch or example that is wrong, and what to do.
    """
    batches = batches_of(data, batch_size, microbatch, examples)
    dataset = checked_dataset(
        batches, engine.batch, engine.host_rows, lambda seed: engine.random_state(seed, batches.source)
    )
    with engine.random_state(PASS_SEED, batches.source), engine.at(engine.native(engine.parameters())) as point:
        widths = [
            _check_batch(engine, point, batch, number, advice, check_first) for number, batch in enumerate(dataset)
        ]
    return dataset, max(widths)


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
    return prod(outputs.shape[1:])
