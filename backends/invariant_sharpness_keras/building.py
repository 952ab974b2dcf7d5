"""From what users have to an oracle: everything that can be wrong is found here, and named."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from invariant_sharpness.adapters.data import (
    Batch,
    as_batches,
    calling_model,
    check_inputs,
    check_outputs,
    in_batch,
    random_state,
)
from invariant_sharpness.errors import ModelError
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness_keras.dataset import Dataset, checked_dataset
from invariant_sharpness_keras.engines import Array, Arrays, Engine, engine_of
from invariant_sharpness_keras.groups import parameter_groups
from invariant_sharpness_keras.losses import KerasLoss, resolve_loss
from invariant_sharpness_keras.models import check_layers, host_values, trainable_variables
from invariant_sharpness_keras.oracle import KerasOracle
from invariant_sharpness_keras.symmetry import check_symmetry

_ADVICE = "Check what the model takes, and that it returns one tensor"


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
    with random_state():
        shapes = [_check_batch(engine, values, batch, index, loss) for index, batch in enumerate(dataset)]
    return max(shapes, key=prod)


def _check_batch(engine: Engine, values: Arrays, batch: Batch, index: int, loss: KerasLoss) -> tuple[int, ...]:
    """The shape of an example's outputs, of a batch that can be measured on."""
    check_inputs(batch, index)
    with calling_model(batch.inputs, index, _ADVICE):
        outputs = engine.outputs(values, batch.inputs)
    if not isinstance(outputs, np.ndarray):
        msg = f"the model returned a {type(outputs).__name__} instead of one tensor: make a model of the output to measure"
        raise ModelError(msg)
    check_outputs(outputs, batch.examples, index)
    with in_batch(index):
        loss.check(engine, outputs, batch.targets)
    if index == 0:
        _check_determinism(engine, values, batch, outputs)
        check_symmetry(engine, values, batch)
    return outputs.shape[1:]


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
