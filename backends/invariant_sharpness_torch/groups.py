"""The parameters of a module, with their roles and axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from types import MappingProxyType

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from invariant_sharpness.parameters.groups import given_groups
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness_torch.models import class_of

_NORMS = (_BatchNorm, _NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def parameter_groups(
    model: nn.Module,
    names: frozenset[str],
    given: Sequence[ParameterGroup] = (),
    used: Mapping[str, ParameterGroup | None] = MappingProxyType({}),
) -> tuple[ParameterGroup, ...]:
    """The groups with these names: as ``given``, as they are ``used``, or as the modules that own them describe them.

    A parameter of an unknown module counts as a matrix, outputs first, if it has two axes, and as ``"other"``
    if not. A bias belongs to the weight of the same module with the same name, if their outputs agree in number.

    Parameters
    ----------
    model
        The module.
    names
        Those of its parameters that are measured.
    given
        Descriptions by the user.
    used
        Descriptions of parameters of unknown modules, by what the model does with them.

    Raises
    ------
    ModelError
        If a given group is no parameter of the model, or has another shape.
    """
    described = {group.name: group for group in _described(model, used) if group.name in names}
    shapes = {name: group.shape for name, group in described.items()}
    return tuple({**described, **given_groups(given, shapes)}.values())


def untold_parameters(model: nn.Module, groups: Sequence[ParameterGroup]) -> dict[str, nn.Parameter]:
    """The parameters with two axes or more whose modules are not PyTorch's own, and so do not tell what the axes are."""
    own = {
        f"{prefix}.{attribute}" if prefix else attribute
        for prefix, module in model.named_modules()
        if (kind := class_of(module)).__module__.startswith("torch.nn.modules.") and kind is not nn.Module
        for attribute, _ in module.named_parameters(recurse=False)
    }
    wanted = {group.name for group in groups if len(group.shape) > 1 and group.role in ("other", "matrix")} - own
    return {name: parameter for name, parameter in model.named_parameters() if name in wanted}


def _described(model: nn.Module, used: Mapping[str, ParameterGroup | None]) -> Iterator[ParameterGroup]:
    """Every parameter once, under the name of the first module that owns it."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for prefix, module in model.named_modules():
        for attribute, parameter in module.named_parameters(recurse=False):
            if names[id(parameter)] == (f"{prefix}.{attribute}" if prefix else attribute):
                yield _describe(module, attribute, names, used)


def _describe(
    module: nn.Module, attribute: str, names: Mapping[int, str], used: Mapping[str, ParameterGroup | None]
) -> ParameterGroup:
    parameter = _parameter(module, attribute)
    name, shape = names[id(parameter)], tuple(parameter.shape)
    if issubclass(class_of(module), _NORMS) and attribute == "weight":
        return ParameterGroup(name, shape, "norm", output_axes=tuple(range(len(shape))))
    if attribute.startswith("bias") or attribute.endswith("bias"):
        owner = _owner(module, attribute, names, used)
        return ParameterGroup(name, shape, "bias", output_axes=tuple(range(len(shape))), owner=owner)
    return used.get(name) or _describe_weight(module, name, shape)


def _parameter(module: nn.Module, attribute: str) -> nn.Parameter:
    return dict(module.named_parameters(recurse=False))[attribute]


def _describe_weight(module: nn.Module, name: str, shape: tuple[int, ...]) -> ParameterGroup:
    kind = class_of(module)
    if issubclass(kind, _ConvTransposeNd):
        return ParameterGroup(name, shape, "convolution", (1,), (0,), getattr(module, "groups", 1), "output")
    if issubclass(kind, _ConvNd):
        return ParameterGroup(name, shape, "convolution", (0,), (1,), getattr(module, "groups", 1))
    if issubclass(kind, (nn.Embedding, nn.EmbeddingBag)):
        return ParameterGroup(name, shape, "embedding", output_axes=(1,), input_axes=(0,))
    if len(shape) != 2:
        return ParameterGroup(name, shape)
    if type(module).__name__ == "Conv1D":  # of Hugging Face's GPT-2: a linear layer, inputs first
        return ParameterGroup(name, shape, "matrix", output_axes=(1,), input_axes=(0,))
    return ParameterGroup(name, shape, "matrix", output_axes=(0,), input_axes=(1,))


def _owner(
    module: nn.Module, attribute: str, names: Mapping[int, str], used: Mapping[str, ParameterGroup | None]
) -> str | None:
    """The weight to whose outputs a bias is added: ``weight`` for ``bias``, ``in_proj_weight`` for ``in_proj_bias``."""
    partner = attribute.replace("bias", "weight")
    if partner not in dict(module.named_parameters(recurse=False)):
        return None
    group = _describe(module, partner, names, used)
    outputs = prod(group.shape[axis] for axis in group.output_axes)
    channels = outputs * group.channel_groups if group.divided_axes == "output" else outputs
    return group.name if group.output_axes and channels == _parameter(module, attribute).numel() else None
