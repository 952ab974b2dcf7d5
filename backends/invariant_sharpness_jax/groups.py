"""The parameters of a tree, with roles and axes told from names and shapes, as Flax and Haiku choose them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from invariant_sharpness.parameters.groups import given_groups
from invariant_sharpness.protocol import ParameterGroup

_KERNELS = ("kernel", "weight", "w")
_GAINS = ("scale", "gamma")
_SHIFTS = ("bias", "b", "beta", "offset")
_TABLES = ("embedding", "embeddings")

Shapes = Mapping[str, tuple[int, ...]]


def parameter_groups(arrays: Mapping[str, Any], given: Sequence[ParameterGroup] = ()) -> tuple[ParameterGroup, ...]:
    """The groups of these parameters: as ``given``, or as their names and shapes tell.

    ``kernel``, ``weight`` and ``w`` have inputs and outputs as their last axes, and before them kernel positions.
    A ``bias`` belongs to the kernel or gain beside it, if their outputs agree in number. Any other array with
    two axes counts as a matrix, inputs first. Channel groups cannot be told from names: of more axes, :mod:`~invariant_sharpness_jax.roles`
    asks the program.

    Raises
    ------
    ModelError
        If a given group is no parameter, or has another shape.
    """
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    described: dict[str, ParameterGroup] = {}
    replaced = given_groups(given, shapes)
    for name in sorted(shapes, key=lambda name: _last(name) in _SHIFTS):
        described[name] = replaced.get(name) or _describe(name, shapes, {**described, **replaced})
    return tuple(described[name] for name in shapes)


def _describe(name: str, shapes: Shapes, described: Mapping[str, ParameterGroup]) -> ParameterGroup:
    shape, last = shapes[name], _last(name)
    every_axis = tuple(range(len(shape)))
    if last in _SHIFTS:
        return ParameterGroup(name, shape, "bias", output_axes=every_axis, owner=_owner(name, shape, described))
    if last in _GAINS and len(shape) == 1:
        return ParameterGroup(name, shape, "norm", output_axes=every_axis)
    if last in _TABLES and len(shape) == 2:
        return ParameterGroup(name, shape, "embedding", output_axes=(1,), input_axes=(0,))
    if len(shape) == 3 and last in _KERNELS and (attention := _attention_axes(name, shapes)):
        return ParameterGroup(name, shape, "matrix", *attention)
    if len(shape) == 2:
        return ParameterGroup(name, shape, "matrix", output_axes=(1,), input_axes=(0,))
    if last in _KERNELS and len(shape) in (3, 4, 5):
        return ParameterGroup(name, shape, "convolution", every_axis[-1:], every_axis[-2:-1])
    return ParameterGroup(name, shape)


def _attention_axes(name: str, shapes: Shapes) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Outputs and inputs of the kernels of Flax's attention: (features, heads, width), and back for ``out``."""
    *path, projection, last = ("", *name.split("."))
    siblings = [".".join((*path[1:], other, last)) for other in ("query", "key", "value", "out")]
    if not all(len(shapes.get(sibling, ())) == 3 for sibling in siblings) or name not in siblings:
        return None
    return ((2,), (0, 1)) if projection == "out" else ((1, 2), (0,))


def _owner(name: str, shape: tuple[int, ...], described: Mapping[str, ParameterGroup]) -> str | None:
    """The kernel or gain of the same subtree, if it has as many output channels as the bias has entries."""
    prefix = name.removesuffix(_last(name))
    candidates = [described[prefix + last] for last in (*_KERNELS, *_GAINS) if prefix + last in described]
    return next((group.name for group in candidates if _channels(group) == prod(shape)), None)


def _channels(group: ParameterGroup) -> int:
    outputs = prod(group.shape[axis] for axis in group.output_axes)
    return outputs * group.channel_groups if group.divided_axes == "output" else outputs


def _last(name: str) -> str:
    return name.rpartition(".")[2]
