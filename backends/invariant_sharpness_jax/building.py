"""From what users have to an oracle: everything that can be wrong is found here, and named."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from invariant_sharpness.adapters.data import (
    Batch,
    as_batches,
    calling_model,
    check_inputs,
    check_outputs,
    in_batch,
    map_leaves,
    random_state,
)
from invariant_sharpness.errors import ModelError
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness_jax.application import Application
from invariant_sharpness_jax.dataset import Dataset, checked_dataset
from invariant_sharpness_jax.groups import parameter_groups
from invariant_sharpness_jax.losses import JaxLoss, resolve_loss
from invariant_sharpness_jax.oracle import JaxOracle, OutputForm
from invariant_sharpness_jax.precision import held, model_rounding
from invariant_sharpness_jax.program import Apply, Program
from invariant_sharpness_jax.trees import Arrays, checked_arrays, named_leaves

_CERTIFICATE_EXAMPLES = 32
_ADVICE = (
    "apply has to take (parameters, inputs), where inputs are a whole batch (jax.vmap makes a batch out of examples)"
)


def build_oracle(
    apply: Apply,
    data: Any,
    loss: Any = "cross_entropy",
    *,
    parameters: Any,
    batch_size: int = 256,
    microbatch: int | None = None,
    dtype: str | None = None,
    groups: Sequence[ParameterGroup] = (),
) -> JaxOracle:
    """The oracle of a function; reads the data once (what is not in memory three times) and checks everything.

    Parameters
    ----------
    apply
        ``(parameters, inputs) -> outputs``, pure, in inference mode: one row of outputs per example, which
        does not depend on the other examples.
    data
        ``(x, y)`` arrays, one batch, a list of batches, or an object that yields the same batches whenever it is
        iterated over. A batch is ``(inputs, targets)``, or a dictionary with ``"labels"``, of which ``apply``
        gets the rest.
    loss
        A name, a loss of :mod:`invariant_sharpness.losses`, or a callable ``(outputs, targets) -> one loss per example``.
    parameters
        A tree of arrays of floating-point numbers; all of them are measured. Unused ones have zero curvature.
    batch_size
        For ``(x, y)`` only. Memory grows with it; the value does not depend on it.
    microbatch
        Cut the batches of a loader, or of whatever kind, into pieces of at most so many examples, which count as batches
        in messages. Memory falls with it; the value does not depend on it.
    dtype
        ``"float32"`` or ``"float64"``: measure a copy of the parameters in this precision.
    groups
        Descriptions that replace those told from names and shapes.

    Raises
    ------
    ModelError, DataError, LossError, NonFiniteError
        Each names the parameter, batch or example that is wrong, and what to do.
    """
    named, structure = named_leaves(parameters)
    given = checked_arrays(named, dtype)
    arrays, dtypes = {name: held(array) for name, array in given.items()}, {k: a.dtype for k, a in given.items()}
    own = apply.groups if isinstance(apply, Application) else ()
    described = parameter_groups(arrays, (*own, *groups))
    resolved = resolve_loss(loss)
    program = Program(apply, structure, dtypes, resolved)
    dataset = checked_dataset(as_batches(data, batch_size, microbatch), next(iter(dtypes.values())))
    head, outputs, outputs_per_example = _check_pass(program, arrays, dataset, resolved)
    return JaxOracle(program, arrays, structure, described, dataset, head, outputs, outputs_per_example)


class _Seen(NamedTuple):
    """What a look at all batches found: the first few examples, the form of their outputs, and the most outputs of one example."""

    head: Batch
    head_outputs: OutputForm
    outputs_per_example: int


def _check_pass(program: Program, arrays: Arrays, dataset: Dataset, loss: JaxLoss) -> _Seen:
    """Look at every batch once."""
    numbered = enumerate(dataset)
    with random_state():
        index, first = next(numbered)
        outputs = _checked_outputs(program, arrays, first, index, loss)
        _check_alone(program, arrays, first, outputs)
        others = [_checked_outputs(program, arrays, batch, index, loss).shape for index, batch in numbered]
    examples, *shape = outputs.shape
    count = min(examples, _CERTIFICATE_EXAMPLES)
    most = max(prod(shape) for _, *shape in (outputs.shape, *others))
    return _Seen(first.take(0, count), OutputForm((count, *shape), outputs.dtype), most)


def _checked_outputs(program: Program, arrays: Arrays, batch: Batch, index: int, loss: JaxLoss) -> jax.Array:
    """The outputs for a batch that can be measured on."""
    check_inputs(map_leaves(_on_host, batch), index)
    outputs = _outputs(program, arrays, batch, index)
    check_outputs(np.asarray(outputs, dtype=np.float64), batch.examples, index)
    with in_batch(index):
        loss.check(outputs, batch.targets)
    return outputs


def _on_host(leaf: jax.Array) -> np.ndarray[Any, Any]:
    """In a type that NumPy knows."""
    return np.asarray(held(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf)


def _outputs(program: Program, arrays: Arrays, batch: Batch, index: int) -> jax.Array:
    with calling_model(batch.inputs, index, _ADVICE):
        return program.evaluate(arrays, batch.inputs)


def _check_alone(program: Program, arrays: Arrays, batch: Batch, outputs: jax.Array) -> None:
    """Trace the model anew on half of the batch, which finds what depends on the batch or on the moment of tracing."""
    half = (len(outputs) + 1) // 2
    again = np.asarray(_outputs(program, arrays, batch.take(0, half), index=0), dtype=np.float64)
    expected = np.asarray(outputs, dtype=np.float64)[:half]
    tolerance = max(1e-3, 10 * model_rounding(program.dtypes))
    limit = tolerance * (np.abs(expected) + np.abs(expected).max())
    if again.shape != expected.shape or not np.all(np.abs(again - expected) <= limit):
        msg = (
            "the same examples have other outputs in a smaller batch: the model is random (dropout?), or normalizes with the "
            "statistics of the batch, so an example has no loss of its own; apply has to be in inference mode"
        )
        raise ModelError(msg)
