"""Which engine differentiates: that of TensorFlow, or the ones of the PyTorch and the JAX backend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from invariant_sharpness.adapters import Engine
from invariant_sharpness.adapters.data import Dataset
from invariant_sharpness.adapters.whole_batches import Examples
from invariant_sharpness.errors import ModelError
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness_keras.groups import untold
from invariant_sharpness_keras.losses import Loss, of_batches


def engine_of(
    model: Any, loss: Loss, variables: Sequence[Any], groups: tuple[ParameterGroup, ...], examples: Examples = "rows"
) -> Engine[Any]:
    """Return the engine that computes the model.

    Parameters
    ----------
    model, loss
        The model, and the loss of its outputs.
    variables, groups
        The variables that are measured, and their descriptions in the same order.
    examples
        Whether an example is a row of a batch, or a whole batch.

    Raises
    ------
    ModelError
        If Keras runs on a backend without gradients, or on another one than the model.
    """
    framework = keras.backend.backend()
    loss = loss if examples == "rows" else of_batches(loss)
    if not isinstance(model, keras.Model) and framework != "tensorflow":
        msg = (
            f"the model is a tf.Module, but Keras, which supplies the losses, runs on {framework!r}: "
            f"set the environment variable KERAS_BACKEND=tensorflow before Python starts"
        )
        raise ModelError(msg)
    if framework == "tensorflow":
        from invariant_sharpness_keras.tensorflow_engine import TensorflowEngine

        return TensorflowEngine(model, loss, variables, groups, examples)
    if framework == "torch":
        from invariant_sharpness_keras.torch_engine import KerasTorchEngine

        return KerasTorchEngine(model, loss, variables, groups, examples)
    if framework == "jax":
        from invariant_sharpness_keras.jax_engine import KerasJaxEngine

        return KerasJaxEngine(model, loss, variables, groups, examples)
    msg = (
        f"Keras runs on {framework!r}, which has no second derivatives: set the environment variable KERAS_BACKEND "
        f"to tensorflow, jax or torch before Python starts"
    )
    raise ModelError(msg)


def uses_of(engine: Any, variables: Sequence[Any], dataset: Dataset[Any]) -> dict[str, ParameterGroup]:
    """Describe those of the variables that their layers do not, by the operations in which they enter, on the first batch.

    Absent are those that enter in none whose axes have a meaning, or in two of different meanings.
    """
    names, framework = untold(engine.groups), keras.backend.backend()
    found: Iterable[ParameterGroup | None]
    if not names:
        return {}
    if framework == "torch":
        from invariant_sharpness_torch import roles as roles_of_torch

        pairs = zip(engine.groups, variables, strict=True)
        values = {group.name: variable.value for group, variable in pairs if group.name in names}
        found = roles_of_torch.uses(engine, values, dataset).values()
    elif framework == "jax":
        from invariant_sharpness_jax import roles as roles_of_jax

        found = roles_of_jax.uses(engine, names, dataset)
    else:
        from invariant_sharpness_keras import tensorflow_roles

        found = tensorflow_roles.uses(engine, names, dataset)
    return {group.name: group for group in found if group is not None}
