"""The outputs of a model and their whole Jacobian, by the framework's own function for it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

Array = np.ndarray[Any, Any]


def outputs_and_jacobian(model: keras.Model, inputs: Array) -> tuple[Array, list[Array]]:
    """Outputs of shape ``(n, K)``, and for each variable an array of shape ``(n, K, *shape)``."""
    values = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]
    x = keras.ops.convert_to_tensor(inputs)

    def outputs(*point: Any) -> Any:
        return model.stateless_call(list(point), fixed, x)[0]

    jacobian = {"tensorflow": _of_tensorflow, "jax": _of_jax, "torch": _of_torch}[keras.backend.backend()]
    z = outputs(*values)
    return _on_host(z), [_on_host(part) for part in jacobian(outputs, values)]


def _of_tensorflow(outputs: Any, values: list[Any]) -> Any:
    import tensorflow as tf

    point = [tf.identity(value) for value in values]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(point)
        z = tf.function(outputs)(*point)
    return tape.jacobian(z, point, experimental_use_pfor=False)


def _of_jax(outputs: Any, values: list[Any]) -> Any:
    import jax

    return jax.jit(jax.jacrev(lambda point: outputs(*point)))(values)


def _of_torch(outputs: Any, values: list[Any]) -> Any:
    import torch

    return torch.autograd.functional.jacobian(outputs, tuple(value.detach().clone() for value in values))


def _on_host(tensor: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(tensor), dtype=np.float64)
