"""A Keras model as a function of its variables, in inference mode."""

from __future__ import annotations

import inspect
from typing import Any

import keras


def constants(model: keras.Model) -> list[Any]:
    """Return the tensors of all that is not measured: frozen variables, moving statistics, states of random layers."""
    return [variable.value for variable in model.non_trainable_variables]


def outputs(model: keras.Model, values: list[Any], fixed: list[Any], inputs: Any) -> Any:
    """Return the outputs at these values of the trainable and the other variables; the model itself is only read.

    A model whose ``call`` does not take ``training`` is in inference mode by itself.
    """
    takes_mode = "training" in inspect.signature(model.call).parameters
    returned, _ = model.stateless_call(values, fixed, inputs, **({"training": False} if takes_mode else {}))
    return returned
