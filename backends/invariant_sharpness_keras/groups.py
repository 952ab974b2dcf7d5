"""The parameters of a model, with their roles and axes in the layouts of Keras."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any

import keras
from keras import layers

from invariant_sharpness.parameters.groups import given_groups
from invariant_sharpness.protocol import ParameterGroup

_PARTNERS = {"beta": ("gamma",), "bias": ("kernel", "pointwise_kernel")}
"""The weight of the same layer to whose outputs a shift is added."""


def parameter_groups(
    model: Any, variables: Sequence[Any], given: Sequence[ParameterGroup] = ()
) -> tuple[ParameterGroup, ...]:
    """The groups of these variables: as ``given``, or as the layers that own them describe them.

    A variable of an unknown layer, or of a ``tf.Module``, counts as a matrix, inputs first, if it has two axes, and
    as ``"other"`` if not.

    Raises
    ------
    ModelError
        If a given group is no parameter of the model, or has another shape.
    """
    names = dict(zip(map(id, variables), unique_names(variables), strict=True))
    owners = _owning_layers(model)
    described = {
        names[id(v)]: _describe(owners.get(id(v)), v, names[id(v)], {n: names.get(i) for n, i in _siblings(owners, v)})
        for v in variables
    }
    shapes = {name: group.shape for name, group in described.items()}
    return tuple({**described, **given_groups(given, shapes)}.values())


def unique_names(variables: Sequence[Any]) -> list[str]:
    """The path of a Keras variable or the name of a TensorFlow one; equal names are numbered."""
    names = [getattr(v, "path", v.name).removesuffix(":0") for v in variables]
    counts = Counter(names)
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name}#{seen[name]}" if counts[name] > 1 else name)
    return unique


def _owning_layers(model: Any) -> dict[int, keras.Layer]:
    if not isinstance(model, keras.Model):
        return {}
    return {id(v): layer for layer in model._flatten_layers() for v in layer._trainable_variables}


def _siblings(owners: dict[int, keras.Layer], variable: Any) -> list[tuple[str, int]]:
    layer = owners.get(id(variable))
    return [] if layer is None else [(v.name, id(v)) for v in layer._trainable_variables]


def _describe(layer: keras.Layer | None, variable: Any, name: str, siblings: dict[str, str | None]) -> ParameterGroup:
    shape = tuple(variable.shape)
    kind = variable.name if layer is not None else ""
    if kind in ("gamma", "scale"):
        return ParameterGroup(name, shape, "norm", output_axes=tuple(range(len(shape))))
    if kind in _PARTNERS:
        owner = _owner(layer, kind, prod(shape), siblings)
        return ParameterGroup(name, shape, "bias", output_axes=tuple(range(len(shape))), owner=owner)
    return _describe_weight(layer, kind, name, shape)


def _describe_weight(layer: keras.Layer | None, kind: str, name: str, shape: tuple[int, ...]) -> ParameterGroup:
    if isinstance(layer, layers.EinsumDense) and kind == "kernel":
        return _einsum(layer, name, shape)
    if isinstance(layer, layers.Embedding) and kind == "embeddings":
        return ParameterGroup(name, shape, "embedding", output_axes=(1,), input_axes=(0,))
    rank = len(shape)
    if kind == "depthwise_kernel" or (isinstance(layer, _DEPTHWISE) and kind == "kernel"):
        return ParameterGroup(name, shape, "convolution", (rank - 1,), (rank - 2,), shape[-2], "output")
    if isinstance(layer, _TRANSPOSED) and kind == "kernel":
        return ParameterGroup(name, shape, "convolution", (rank - 2,), (rank - 1,))
    if kind == "pointwise_kernel" or (isinstance(layer, _CONVOLUTIONS) and kind == "kernel"):
        groups = getattr(layer, "groups", 1) if kind == "kernel" else 1
        return ParameterGroup(name, shape, "convolution", (rank - 1,), (rank - 2,), groups)
    if rank == 2:
        return ParameterGroup(name, shape, "matrix", output_axes=(1,), input_axes=(0,))
    return ParameterGroup(name, shape)


_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)


def _einsum(layer: layers.EinsumDense, name: str, shape: tuple[int, ...]) -> ParameterGroup:
    """Axes that are summed over with the inputs are input axes; such are the projections of attention."""
    operands, outputs = layer.equation.replace("...", "").split("->")
    letters = operands.split(",")[1].strip()
    if any(letter in operands.split(",")[0] and letter in outputs for letter in letters):
        return ParameterGroup(name, shape)
    return ParameterGroup(
        name,
        shape,
        "matrix",
        output_axes=tuple(axis for axis, letter in enumerate(letters) if letter in outputs),
        input_axes=tuple(axis for axis, letter in enumerate(letters) if letter not in outputs),
    )


def _owner(layer: keras.Layer | None, kind: str, size: int, siblings: dict[str, str | None]) -> str | None:
    shapes = {} if layer is None else {v.name: tuple(v.shape) for v in layer._trainable_variables}
    for partner in _PARTNERS[kind]:
        owner = siblings.get(partner)
        if owner is not None:
            outputs = _channels(layer, partner, owner, shapes[partner])
            return owner if outputs == size else None
    return None


def _channels(layer: keras.Layer | None, kind: str, name: str, shape: tuple[int, ...]) -> int:
    """Number of output channels of a weight."""
    if kind == "gamma":
        return prod(shape)
    group = _describe_weight(layer, kind, name, shape)
    outputs = prod(shape[axis] for axis in group.output_axes)
    return outputs * group.channel_groups if group.divided_axes == "output" else outputs
