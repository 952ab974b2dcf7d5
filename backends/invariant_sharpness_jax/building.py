"""From what users have to an oracle: everything that can be wrong is found here, and named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from invariant_sharpness.data import as_batches, leaves
from invariant_sharpness.errors import DataError, InvariantSharpnessError, ModelError, NonFiniteError
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness_jax.application import Application
from invariant_sharpness_jax.dataset import Dataset, checked_dataset
from invariant_sharpness_jax.forward import Batch, take
from invariant_sharpness_jax.forward import batch_size as examples_in
from invariant_sharpness_jax.groups import parameter_groups
from invariant_sharpness_jax.losses import JaxLoss, resolve_loss
from invariant_sharpness_jax.oracle import JaxOracle, OutputForm
from invariant_sharpness_jax.program import Apply, Program
from invariant_sharpness_jax.trees import Arrays, checked_arrays, named_leaves

_CERTIFICATE_EXAMPLES = 32


def build_oracle(
    apply: Apply,
    data: Any,
    loss: Any = "cross_entropy",
    *,
    parameters: Any,
    batch_size: int = 256,
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
    arrays = checked_arrays(named, dtype)
    own = apply.groups if isinstance(apply, Application) else ()
    described = parameter_groups(arrays, (*own, *groups))
    resolved = resolve_loss(loss)
    program = Program(apply, structure, resolved)
    dataset = checked_dataset(as_batches(data, batch_size), next(iter(arrays.values())).dtype)
    head, outputs, outputs_per_example = _check_pass(program, arrays, dataset, resolved)
    return JaxOracle(program, arrays, structure, described, dataset, head, outputs, outputs_per_example)


class _Seen(NamedTuple):
    """What a look at all batches found: the first few examples, the form of their outputs, and the most outputs of one example."""

    head: Batch
    head_outputs: OutputForm
    outputs_per_example: int


def _check_pass(program: Program, arrays: Arrays, dataset: Dataset, loss: JaxLoss) -> _Seen:
    """Look at every batch once."""
    seen: _Seen | None = None
    for index, batch in enumerate(dataset):
        _check_inputs(batch, index)
        outputs = _first_outputs(program, arrays, batch)
        _check_outputs(outputs, batch, index)
        _located(index, loss.check, outputs, batch.targets)
        most = outputs.size // len(outputs)
        if seen is None:
            head = take(batch, _CERTIFICATE_EXAMPLES)
            _check_alone(program, arrays, batch, outputs)
            shape = (min(len(outputs), _CERTIFICATE_EXAMPLES), *outputs.shape[1:])
            seen = _Seen(head, OutputForm(shape, outputs.dtype), most)
        seen = seen._replace(outputs_per_example=max(seen.outputs_per_example, most))
    if seen is None:
        msg = "the data are empty: there is no batch to measure on; pass at least one example"
        raise DataError(msg)
    return seen


def _located(index: int, function: Any, *arguments: Any) -> Any:
    """Say in which batch an error of the library happened."""
    try:
        return function(*arguments)
    except InvariantSharpnessError as error:
        msg = f"batch {index}: {error}"
        raise type(error)(msg) from error


def _first_outputs(program: Program, arrays: Arrays, batch: Batch) -> jax.Array:
    """Where model and data do not fit together, the model itself raises: say on what."""
    try:
        return program.evaluate(arrays, batch.inputs)
    except InvariantSharpnessError:
        raise
    except Exception as error:
        shapes = ", ".join(str(leaf.shape) for leaf in leaves(batch.inputs))
        msg = (
            f"apply raised {type(error).__name__} on parameters and inputs of shapes {shapes}: {error}. It has to take "
            f"(parameters, inputs), where inputs are a whole batch (jax.vmap makes a batch out of examples)"
        )
        raise ModelError(msg) from error


def _check_inputs(batch: Batch, index: int) -> None:
    if _located(index, examples_in, batch) == 0:
        msg = f"batch {index} is empty: leave it out"
        raise DataError(msg)
    for position, leaf in enumerate(leaves(batch)):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(host := np.atleast_1d(np.asarray(leaf))).all():
            example = int(np.argmin(np.isfinite(host).reshape(len(host), -1).all(axis=1)))
            msg = (
                f"array {position} of batch {index} (shape {leaf.shape}) has NaN or infinite entries, "
                f"first in example {example}: clean the data"
            )
            raise NonFiniteError(msg)


def _check_outputs(outputs: jax.Array, batch: Batch, index: int) -> None:
    if outputs.ndim == 0 or len(outputs) != examples_in(batch):
        msg = (
            f"apply returned outputs of shape {outputs.shape} for the {examples_in(batch)} examples of batch {index}: "
            f"the first axis has to count examples"
        )
        raise ModelError(msg)
    if not np.isfinite(np.asarray(outputs)).all():
        msg = (
            f"the outputs of batch {index} are NaN or infinite, although inputs and parameters are finite: "
            f'look for an overflow (does dtype="float64" help?) or a division by zero'
        )
        raise NonFiniteError(msg)


def _check_alone(program: Program, arrays: Arrays, batch: Batch, outputs: jax.Array) -> None:
    """Trace the model anew on half of the batch, which finds what depends on the batch or on the moment of tracing."""
    half = (len(outputs) + 1) // 2
    again = np.asarray(_first_outputs(program, arrays, take(batch, half)), dtype=np.float64)
    expected = np.asarray(outputs, dtype=np.float64)[:half]
    if again.shape != expected.shape or not np.allclose(again, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max()):
        msg = (
            "the same examples have other outputs in a smaller batch: the model is random (dropout?), or normalizes with the "
            "statistics of the batch, so an example has no loss of its own; apply has to be in inference mode"
        )
        raise ModelError(msg)
