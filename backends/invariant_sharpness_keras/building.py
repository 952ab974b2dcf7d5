"""From what users have to an oracle: everything that can be wrong is found here, and named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from invariant_sharpness.data import as_batches, leaves
from invariant_sharpness.errors import DataError, InvariantSharpnessError, ModelError, NonFiniteError
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness_keras.batch import Batch, check_batch
from invariant_sharpness_keras.dataset import Dataset, checked_dataset, random_state
from invariant_sharpness_keras.engines import Array, Arrays, Engine, engine_of
from invariant_sharpness_keras.groups import parameter_groups
from invariant_sharpness_keras.losses import KerasLoss, resolve_loss
from invariant_sharpness_keras.models import check_layers, host_values, trainable_variables
from invariant_sharpness_keras.oracle import KerasOracle
from invariant_sharpness_keras.symmetry import check_symmetry


def build_oracle(
    model: Any,
    data: Any,
    loss: Any = "cross_entropy",
    *,
    batch_size: int = 256,
    groups: Sequence[ParameterGroup] = (),
) -> KerasOracle:
    """The oracle of a model; reads the data once (a loader three times) and checks everything.

    The model is called in inference mode (``training=False``). Frozen variables are not measured, nor are moving
    statistics. Regularization losses are no part of the loss.

    Parameters
    ----------
    model
        A built ``keras.Model``, on TensorFlow, JAX or PyTorch, or a ``tf.Module`` with ``module(inputs)``. It returns
        logits.
    data
        ``(x, y)`` arrays, one batch, a list of batches, a ``tf.data.Dataset``, a ``keras.utils.PyDataset``, or any
        object that can be iterated over again. A batch is ``(inputs, targets)`` or a dictionary with ``"labels"``.
    loss
        A name, ``keras.losses.SparseCategoricalCrossentropy(from_logits=True)``, ``keras.losses.MeanSquaredError()``,
        a named loss of :mod:`invariant_sharpness.losses`, or a callable ``(outputs, targets) -> one loss per example``
        in the operations of the engine or of ``keras.ops``.
    batch_size
        For ``(x, y)`` only. Memory grows with it; the value does not depend on it.
    groups
        Descriptions that replace those of the library: which axes of a variable count outputs and inputs.

    Raises
    ------
    ModelError, DataError, LossError, NonFiniteError
        Each names the variable, layer, batch or example that is wrong, and what to do.
    """
    resolved = resolve_loss(loss)
    variables = trainable_variables(model)
    check_layers(model)
    engine = engine_of(model, resolved)
    described = parameter_groups(model, variables, groups)
    values = host_values(variables)
    dataset = checked_dataset(as_batches(data, batch_size), values[0].dtype)
    output_shape = _check_pass(dataset, resolved, engine, values)
    return KerasOracle(model, dataset, resolved, engine, variables, output_shape, described)


def _check_pass(dataset: Dataset, loss: KerasLoss, engine: Engine, values: Arrays) -> tuple[int, ...]:
    """Look at every batch once; return the shape of the largest outputs of an example."""
    shape: tuple[int, ...] | None = None
    with random_state():
        for index, batch in enumerate(dataset):
            check_batch(batch, index)
            outputs = _first_pass(engine, values, batch, index)
            _check_outputs(outputs, batch, index)
            _check_loss(loss, engine, outputs, batch, index)
            if shape is None:
                _check_determinism(engine, values, batch, outputs)
                check_symmetry(engine, values, batch)
            if shape is None or outputs[0].size > np.prod(shape):
                shape = outputs.shape[1:]
    if shape is None:
        msg = "the data are empty: there is no batch to measure on; pass at least one example"
        raise DataError(msg)
    return shape


def _first_pass(engine: Engine, values: Arrays, batch: Batch, index: int) -> Array:
    """Where model and data do not fit together, the framework itself raises: say on what."""
    try:
        return engine.outputs(values, batch.inputs)
    except InvariantSharpnessError:
        raise
    except Exception as error:
        shapes = ", ".join(str(leaf.shape) for leaf in leaves(batch.inputs))
        msg = (
            f"batch {index}: the model raised {type(error).__name__} on inputs of shapes {shapes}: {error}. "
            f"Check what the model takes, and that it returns one tensor"
        )
        raise ModelError(msg) from error


def _check_loss(loss: KerasLoss, engine: Engine, outputs: Array, batch: Batch, index: int) -> None:
    """Say in which batch an error of the library happened."""
    try:
        loss.check(engine, outputs, batch.targets)
    except InvariantSharpnessError as error:
        msg = f"batch {index}: {error}"
        raise type(error)(msg) from error


def _check_outputs(outputs: Array, batch: Batch, index: int) -> None:
    if not isinstance(outputs, np.ndarray):
        msg = f"the model returned a {type(outputs).__name__} instead of one tensor: make a model of the output to measure"
        raise ModelError(msg)
    if outputs.ndim == 0 or len(outputs) != batch.examples:
        msg = (
            f"the model returned outputs of shape {outputs.shape} for the {batch.examples} examples of batch {index}: "
            f"the first axis has to count examples"
        )
        raise ModelError(msg)
    if not np.isfinite(outputs).all():
        msg = (
            f"the outputs of batch {index} are NaN or infinite, although inputs and variables are finite: "
            f"look for an overflow or a division by zero"
        )
        raise NonFiniteError(msg)


def _check_determinism(engine: Engine, values: Arrays, batch: Batch, outputs: Array) -> None:
    """Two passes agree, and an example alone has the outputs that it has among others."""
    last = batch.take(batch.examples - 1, batch.examples)
    again, alone = engine.outputs(values, batch.inputs), engine.outputs(values, last.inputs)
    tolerance = 1e-3 * float(np.abs(outputs).max())
    if np.abs(again - outputs).max() > tolerance or np.abs(alone[0] - outputs[-1]).max() > tolerance:
        msg = (
            "the outputs of an example depend on random numbers or on the other examples of its batch, even with "
            "training=False, so its loss is not defined: remove training=True from calls of dropout and batch "
            "normalization within the model"
        )
        raise ModelError(msg)
