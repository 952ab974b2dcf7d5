"""From what users have to an oracle: everything that can be wrong is found here, and named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from invariant_sharpness.adapters import Engine, checked_data
from invariant_sharpness.adapters.alone import Evaluate, check_own_outputs
from invariant_sharpness.adapters.data import weighted_pair
from invariant_sharpness.adapters.true_derivatives import check_derivatives
from invariant_sharpness.adapters.whole_batches import Examples
from invariant_sharpness.losses import FunctionLoss
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness.runtime.exclusive import exclusive
from invariant_sharpness_keras.engines import engine_of, uses_of
from invariant_sharpness_keras.groups import parameter_groups
from invariant_sharpness_keras.losses import check_probabilities, resolve_loss
from invariant_sharpness_keras.models import check_layers, trainable_variables
from invariant_sharpness_keras.oracle import KerasOracle
from invariant_sharpness_keras.symmetry import check_symmetry, weighted_batch, weighted_outputs

_ADVICE = "Check what the model takes, and that it returns one tensor"


@exclusive()
def build_oracle(
    model: Any,
    data: Any,
    loss: Any = "cross_entropy",
    *,
    batch_size: int = 256,
    max_examples: int | None = None,
    groups: Sequence[ParameterGroup] = (),
    examples: Examples = "rows",
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
    max_examples
        Measure on so many first examples, and read no batch beyond them. Data may have no end then, and of an iterator they are held in memory.
    groups
        Descriptions that replace those of the library: which axes of a variable count outputs and inputs.
    examples
        ``"batches"``: a batch is one example, which is never cut. The loss returns one number for it, or is one of Keras' own or of
        the library's, whose mean over the rows is taken; what is measured is the mean over the batches.

    Raises
    ------
    ModelError, DataError, LossError, NonFiniteError
        Each names the variable, layer, batch or example that is wrong, and what to do.
    """
    resolved = resolve_loss(loss)
    variables = trainable_variables(model)
    check_layers(model)
    described = parameter_groups(model, variables, groups)
    engine: Any = engine_of(model, resolved, variables, described, examples)
    data = weighted_pair(data)

    def check_first(_: Engine[Any], evaluate: Evaluate, batch: Any, outputs: Any) -> None:
        expected = engine.read(outputs)
        check_probabilities(resolved, expected)
        check_own_outputs(engine, evaluate, batch, outputs)
        if engine.may_deceive(batch):
            check_derivatives(engine, batch)
        linear = FunctionLoss(weighted_outputs if examples == "rows" else weighted_batch)
        check_symmetry(engine_of(model, linear, variables, described, examples), batch.inputs, expected)

    dataset, outputs = checked_data(
        engine,
        data,
        batch_size=batch_size,
        max_examples=max_examples,
        examples=examples,
        advice=_ADVICE,
        check_first=check_first,
    )
    if used := uses_of(engine, variables, dataset):
        engine.groups = parameter_groups(model, variables, groups, used)
    return KerasOracle(model, engine, dataset, outputs)
