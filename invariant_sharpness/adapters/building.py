"""The one checked way from what users have to an oracle: everything that can be wrong with data and outputs is found here, and named."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from invariant_sharpness.adapters.data import (
    PASS_SEED,
    Batch,
    Dataset,
    as_batches,
    batch_size,
    calling_model,
    check_inputs,
    check_outputs,
    checked_dataset,
    in_batch,
    take,
)
from invariant_sharpness.adapters.engine import Array, Engine, Point
from invariant_sharpness.errors import ModelError
from invariant_sharpness.runtime.exclusive import exclusive

Evaluate = Callable[[Any], tuple[Array, Array]]
"""Runs the model on some examples; what it raises is named."""

CheckFirst = Callable[[Engine[Any], Evaluate, Any, Array], None]
"""Looks at the model once more on the first batch, whose outputs are given."""


def check_determinism(engine: Engine[Any], evaluate: Evaluate, batch: Any, outputs: Array) -> None:
    """Raise ModelError if a second pass over the same batch, from another random state, gives other outputs."""
    with engine.random_state(PASS_SEED + 1, ()):
        again = engine.read(evaluate(batch)[0])
    expected = engine.read(outputs)
    if not np.allclose(again, expected, rtol=1e-3, atol=1e-3 * float(np.abs(expected).max())):
        msg = (
            "two passes over the same batch gave different outputs: the model is random (functional dropout?), so it "
            "has no one loss; call model.eval() and make the forward pass deterministic"
        )
        raise ModelError(msg)


def check_alone(engine: Engine[Any], evaluate: Evaluate, batch: Any, outputs: Array) -> None:
    """Raise ModelError if half of the batch gives other outputs, as a model does that is random or mixes the examples."""
    half = (outputs.shape[0] + 1) // 2
    again, expected = engine.read((evaluate(take(batch, 0, half))[0], outputs))
    expected = expected[:half]
    limit = max(1e-3, 10 * engine.eps) * (np.abs(expected) + np.abs(expected).max())
    if again.shape != expected.shape or not np.all(np.abs(again - expected) <= limit):
        msg = (
            "the same examples have other outputs in a smaller batch: the model is random (dropout?), or normalizes with the "
            "statistics of the batch, so an example has no loss of its own; apply has to be in inference mode"
        )
        raise ModelError(msg)


@exclusive()
def checked_data(
    engine: Engine[Any],
    data: Any,
    *,
    batch_size: int = 256,
    microbatch: int | None = None,
    advice: str = "Check what the model takes and returns",
    check_first: CheckFirst = check_alone,
) -> tuple[Dataset[Any], int]:
    """Make the user's data a data set that does not change, and look at every batch once.

    Parameters
    ----------
    engine
        The model with its loss.
    data, batch_size, microbatch
        As users give them.
    advice
        What to do where model and data do not fit together.
    check_first
        Another look at the model on the first batch; by default, whether an example has the same outputs in a smaller batch.

    Returns
    -------
    tuple
        The data set, and the largest number of outputs of one example.

    Raises
    ------
    ModelError, DataError, LossError, NonFiniteError
        Each names the batch or example that is wrong, and what to do.
    """
    batches = as_batches(data, batch_size, microbatch)
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
