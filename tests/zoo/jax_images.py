"""Convolutional networks of the JAX tests, for images (n, height, width, channels), with batch norm in inference mode."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp


def ordered(*items: tuple[str, Any]) -> Any:
    """A tree whose leaves keep this order, unlike those of a plain dictionary."""
    return OrderedDict(items)


def convolve(x: Any, kernel: Any, stride: int = 1, groups: int = 1, padding: int | None = None) -> Any:
    """Padded as torch does, by half of the kernel unless told otherwise."""
    around = kernel.shape[0] // 2 if padding is None else padding
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(around, around)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def normalize(x: Any, layer: Any, statistics: Any) -> Any:
    return (x - statistics["mean"]) / jnp.sqrt(statistics["variance"] + 1e-5) * layer["scale"] + layer["bias"]


def convolutional_network(parameters: Any, statistics: Any, x: Any) -> Any:
    """Convolution, batch norm, a grouped convolution with stride, max pooling, dense."""
    first, norm, grouped, head = parameters.values()
    x = normalize(convolve(x, first["kernel"]) + first["bias"], norm, statistics["norm"])
    x = convolve(jax.nn.relu(x), grouped["kernel"], stride=2, groups=2, padding=0)
    x = jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID")
    return jnp.mean(x, axis=(1, 2)) @ head["kernel"] + head["bias"]


def residual_network(parameters: Any, statistics: Any, x: Any) -> Any:
    """A convolution, a block around the identity, one around a convolution of stride 2, and a dense layer."""
    x = jax.nn.relu(convolve(x, parameters["stem"]["kernel"]))
    for name in ("plain", "strided"):
        x = residual_block(parameters[name], statistics[name], x)
    return jnp.mean(x, axis=(1, 2)) @ parameters["head"]["kernel"] + parameters["head"]["bias"]


def residual_block(layers: Any, statistics: Any, x: Any) -> Any:
    stride = 2 if "shortcut" in layers else 1
    shortcut = convolve(x, layers["shortcut"]["kernel"], stride) if "shortcut" in layers else x
    x = convolve(x, layers["first"]["kernel"], stride)
    x = jax.nn.relu(normalize(x, layers["first_norm"], statistics["first_norm"]))
    x = normalize(convolve(x, layers["second"]["kernel"]), layers["second_norm"], statistics["second_norm"])
    return jax.nn.relu(x + shortcut)
