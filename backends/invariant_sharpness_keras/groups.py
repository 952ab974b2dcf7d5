"""The parameters of a model, with their roles and axes in the layouts of Keras."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from types import MappingProxyType
from typing import Any

import keras
from keras import layers

from invariant_sharpness.parameters.groups import given_groups
from invariant_sharpness.protocol import ParameterGroup

_GAINS = ("gamma", "scale")
_PARTNERS = {"beta": ("gamma",), "bias": ("kernel", "pointwise_kernel")}
"""The weight of the same layer to whose outputs a shift is added."""


def parameter_groups(
    model: Any,
    variables: Sequence[Any],
    given: Sequence[ParameterGroup] = (),
    used: Mapping[str, ParameterGroup] = MappingProxyType({}),
) -> tuple[ParameterGroup, ...]:
    """The groups of these variables: as ``given``, as they are ``used``, or as the layers of Keras that own them describe them.

    The axes of weights that no layer of Keras made are known from their use alone, and count as ``"other"`` without one. A bias
    belongs to the weight of the same layer, if their outputs agree in number.

    Parameters
    ----------
    model
        A ``keras.Model`` or a ``tf.Module``.
    variables
        Those that are measured.
    given
        Descriptions by the user.
    used
        Descriptions by what the model does with a variable, by name; see :func:`untold`.

    Raises
    ------
    ModelError
        If a given group is no parameter of the model, or has another shape.
    """
    owners = _owning_layers(model)
    described: dict[str, ParameterGroup] = {}
    by_layer: dict[int, list[tuple[str, ParameterGroup]]] = {}
    for variable, name in zip(variables, unique_names(variables), strict=True):
        layer = owners.get(id(variable))
        described[name] = used.get(name) or _describe(layer, variable, name)
        by_layer.setdefault(id(layer), []).append((variable.name, described[name]))
    for siblings in by_layer.values():
        for kind, group in siblings:
            if group.role == "bias":
                described[group.name] = replace(group, owner=_owner(kind, group, siblings))
    shapes = {name: group.shape for name, group in described.items()}
    return tuple({**described, **given_groups(given, shapes)}.values())


def untold(groups: Sequence[ParameterGroup]) -> frozenset[str]:
    """The names of those with two axes or more whose role their layers do not tell; what the model does with them may."""
    return frozenset(group.name for group in groups if group.role == "other" and len(group.shape) > 1)


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


def _describe(layer: keras.Layer | None, variable: Any, name: str) -> ParameterGroup:
    shape = tuple(variable.shape)
    every_axis = tuple(range(len(shape)))
    kind = variable.name if layer is not None else ""
    if len(shape) > 1 and not _is_of_keras(layer):
        return ParameterGroup(name, shape)
    if kind in _GAINS:
        return ParameterGroup(name, shape, "norm", output_axes=every_axis)
    if kind in _PARTNERS:
        return ParameterGroup(name, shape, "bias", output_axes=every_axis)
    return _describe_weight(layer, kind, name, shape)


def _is_of_keras(layer: keras.Layer | None) -> bool:
    """Whether the variables of a layer were made by Keras, in its own layouts; subclasses may compute with them as they like."""
    maker = next((kind for kind in type(layer).__mro__ if "build" in vars(kind)), keras.Layer)
    return maker.__module__.startswith("keras.") and maker is not keras.Layer and not issubclass(maker, keras.Model)


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
    if rank == 2 and ("kernel" in kind or "embeddings" in kind):
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


def _owner(kind: str, shift: ParameterGroup, siblings: Sequence[tuple[str, ParameterGroup]]) -> str | None:
    """The weight or gain beside it that Keras adds such a shift to, or the only weight, if it has as many output channels."""
    named = [group for partner in _PARTNERS[kind] for other, group in siblings if other == partner]
    candidates = named[:1] or [group for _, group in siblings if group.is_weight]
    owners = [group.name for group in candidates if _channels(group) == shift.size]
    return owners[0] if len(candidates) == len(owners) == 1 else None


def _channels(group: ParameterGroup) -> int:
    """Number of output channels; none of parameters of unknown axes."""
    outputs = prod(group.shape[axis] for axis in group.output_axes) if group.output_axes else 0
    return outputs * group.channel_groups if group.divided_axes == "output" else outputs
