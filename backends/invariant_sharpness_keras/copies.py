"""A copy of a model at other parameters, for metrics that take models; and a given ReLU network as a model."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.model_metrics import foreign_oracle
from invariant_sharpness.errors import ModelError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.runtime.exclusive import exclusive
from invariant_sharpness_keras.models import trainable_variables
from invariant_sharpness_keras.oracle import KerasOracle


@exclusive()
def copied_model(oracle: object, parameters: ParameterVector) -> tuple[Any, Any, Any]:
    """Return a copy of the oracle's model with these parameters, all inputs, and all targets.

    Raises
    ------
    ModelError
        If it is not the oracle of a model of Keras or TensorFlow, or the model cannot be copied.
    DataError
        If the examples do not fit into one batch.
    """
    if not isinstance(oracle, KerasOracle):
        raise foreign_oracle(oracle, "Keras")
    try:
        copy = deepcopy(oracle.model)
    except Exception as error:  # layers of users raise what they like
        msg = (
            f"the model cannot be copied by copy.deepcopy: {type(error).__name__}: {error}. Give its layers get_config, and register them "
            f"by keras.saving.register_keras_serializable"
        )
        raise ModelError(msg) from error
    values = oracle.to_numpy(parameters)  # a copy of its own: on JAX, Keras overwrites what its variables hold
    for group, variable in zip(oracle.groups, trainable_variables(copy), strict=True):
        variable.assign(values[group.name])
    return copy, *oracle.all_examples()


def relu_network(
    weights: Sequence[npt.NDArray[np.float64]], biases: Sequence[npt.NDArray[np.float64]] | None
) -> keras.Sequential:
    """Return a ReLU network with these matrices (outputs, inputs) and vectors, in float64 if the engine computes in it."""
    last, dtype = len(weights) - 1, "float64" if keras.backend.backend() == "tensorflow" else "float32"
    layers = [
        keras.layers.Dense(
            len(weight), activation=None if index == last else "relu", use_bias=biases is not None, dtype=dtype
        )
        for index, weight in enumerate(weights)
    ]
    model = keras.Sequential([keras.Input((weights[0].shape[1],), dtype=dtype), *layers])
    for index, layer in enumerate(layers):
        layer.set_weights([weights[index].T, *(() if biases is None else (biases[index],))])
    return model
