"""From what users have to an oracle: everything that can be wrong is found here, and named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from invariant_sharpness.adapters import Engine, checked_data
from invariant_sharpness.adapters.alone import Evaluate
from invariant_sharpness.adapters.data import batch_size as examples_in
from invariant_sharpness.adapters.data import take, weighted_pair
from invariant_sharpness.errors import ModelError
from invariant_sharpness.losses import FunctionLoss
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness.runtime.exclusive import exclusive
from invariant_sharpness_keras.batch import check_ends
from invariant_sharpness_keras.engines import engine_of, uses_of
from invariant_sharpness_keras.groups import parameter_groups
from invariant_sharpness_keras.losses import check_probabilities, resolve_loss
from invariant_sharpness_keras.models import check_layers, trainable_variables
from invariant_sharpness_keras.oracle import KerasOracle
from invariant_sharpness_keras.symmetry import check_symmetry, weighted_outputs

_ADVICE = "Check what the model takes, and that it returns one tensor"


@exclusive()
def build_oracle(
    model: Any,
    data: Any,
    loss: Any = "cross_entropy",
    *,
    batch_size: int = 256,
    groups: Sequence[ParameterGroup] = (),
) -> KerasOracle:
    """Build the oracle of a model: read the data once (a loader three times) and check everything.

    The model is called in inference mode (``training=False``). Frozen variables are not measured, nor are moving
    statistics. Regularization losses are no part of the loss.

    Parameters
    ----------
    model
        A built ``keras.Model``, on TensorFlow, JAX or PyTorch, or a ``tf.Module`` with ``module(inputs)``. It returns
        logits, or probabilities for a loss of Keras with ``from_logits=False``.
    data
        ``(x, y)`` arrays, one batch, a list of batches, a ``tf.data.Dataset``, a ``keras.utils.PyDataset``, or any
        object that can be iterated over again. A batch is ``(inputs, targets)``, ``(inputs, targets, weights)`` or a dictionary
        with ``"labels"``. With weights, the loss is the sum of weighted losses divided by the number of examples, as in Keras.
    loss
        A name of the library's or of Keras', a loss or function of ``keras.losses``, a loss of
        :mod:`invariant_sharpness.losses`, or a callable ``(outputs, targets) -> one loss per example`` in the operations of the
        engine or of ``keras.ops``.
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
    described = parameter_groups(model, variables, groups)
    engine: Any = engine_of(model, resolved, variables, described)
    data = weighted_pair(data)
    check_ends(data)

    def check_first(engine: Engine[Any], evaluate: Evaluate, batch: Any, outputs: Any) -> None:
        expected = engine.read(outputs)
        check_probabilities(resolved, expected)
        _check_determinism(engine, evaluate, batch, expected)
        check_symmetry(engine_of(model, FunctionLoss(weighted_outputs), variables, described), batch.inputs, expected)

    dataset, outputs = checked_data(engine, data, batch_size=batch_size, advice=_ADVICE, check_first=check_first)
    if used := uses_of(engine, variables, dataset):
        engine.groups = parameter_groups(model, variables, groups, used)
    return KerasOracle(model, engine, dataset, outputs)


def _check_determinism(engine: Engine[Any], evaluate: Evaluate, batch: Any, outputs: np.ndarray[Any, Any]) -> None:
    """Two passes agree, and an example alone has the outputs that it has among others."""
    size = examples_in(batch)
    again, alone = (engine.read(evaluate(part)[0]) for part in (batch, take(batch, size - 1, size)))
    tolerance = 1e-3 * float(np.abs(outputs).max())
    if np.abs(again - outputs).max() > tolerance or np.abs(alone[0] - outputs[-1]).max() > tolerance:
        msg = (
            "the outputs of an example depend on random numbers or on the other examples of its batch, even with "
            "training=False, so its loss is not defined: remove training=True from calls of dropout and batch "
            "normalization within the model"
        )
        raise ModelError(msg)
