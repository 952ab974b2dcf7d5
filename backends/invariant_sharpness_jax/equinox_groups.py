"""The parameters of an Equinox module, which stores outputs first and calls the gain of a normalization its weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
from equinox import nn

from invariant_sharpness.protocol import ParameterGroup

_CONVOLUTIONS = (nn.Conv, nn.ConvTranspose)
_NORMS = (nn.BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def described_groups(module: Any) -> tuple[ParameterGroup, ...]:
    """The weights and biases of Equinox's own layers, and of those that are derived from them."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(module, is_leaf=_is_layer)
    return tuple(group for path, layer in leaves if _is_layer(layer) for group in _layer_groups(path, layer))


def _is_layer(value: Any) -> bool:
    return isinstance(value, (nn.Linear, nn.Embedding, *_CONVOLUTIONS, *_NORMS))


def _layer_groups(path: tuple[Any, ...], layer: Any) -> Iterator[ParameterGroup]:
    name = jax.tree_util.keystr((*path, jax.tree_util.GetAttrKey("weight")), simple=True, separator=".")
    weight: Any = getattr(layer, "weight", None)
    if weight is not None:
        yield _weight(name, layer, tuple(weight.shape))
    bias: Any = getattr(layer, "bias", None)
    if bias is not None:
        axes = tuple(range(bias.ndim))
        owner = name if weight is not None else None
        yield ParameterGroup(name.removesuffix("weight") + "bias", tuple(bias.shape), "bias", axes, owner=owner)


def _weight(name: str, layer: Any, shape: tuple[int, ...]) -> ParameterGroup:
    if isinstance(layer, _NORMS):
        return ParameterGroup(name, shape, "norm", output_axes=tuple(range(len(shape))))
    if isinstance(layer, nn.Embedding):
        return ParameterGroup(name, shape, "embedding", output_axes=(1,), input_axes=(0,))
    if isinstance(layer, _CONVOLUTIONS):
        return ParameterGroup(name, shape, "convolution", (0,), (1,), layer.groups)
    return ParameterGroup(name, shape, "matrix", output_axes=(0,), input_axes=(1,))
