"""A given ReLU network as a function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt


def relu_parameters(
    weights: Sequence[npt.NDArray[np.float64]], biases: Sequence[npt.NDArray[np.float64]] | None
) -> dict[str, list[dict[str, jax.Array]]]:
    """The parameters of a network with these matrices (outputs, inputs) and vectors; in single precision, if JAX has no other."""
    layers = [{"kernel": jnp.asarray(weight.T.copy())} for weight in weights]
    for layer, bias in zip(layers, biases or (), strict=biases is not None):
        layer["bias"] = jnp.asarray(bias)
    return {"layers": layers}


def apply_relu_network(parameters: Any, x: jax.Array) -> jax.Array:
    """Outputs of the network."""
    for number, layer in enumerate(parameters["layers"]):
        x = (jax.nn.relu(x) if number else x) @ layer["kernel"] + layer.get("bias", 0.0)
    return x
