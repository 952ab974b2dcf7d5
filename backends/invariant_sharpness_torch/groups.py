"""The parameters of a module, with their roles and axes."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy

from invariant_sharpness.errors import ModelError
from invariant_sharpness.protocol import ParameterGroup

_NORMS = (_BatchNorm, _NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient, by name; tied ones once.

    Raises
    ------
    ModelError
        If there is none, or one is complex, an integer, half precision, or without data.
    """
    for name, parameter in model.named_parameters():
        _check_parameter(name, parameter)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        msg = "no parameter of the model requires a gradient: there is nothing to measure (requires_grad_(True))"
        raise ModelError(msg)
    return trainable


def parameter_groups(model: nn.Module, names: frozenset[str]) -> tuple[ParameterGroup, ...]:
    """The groups with these names, described by the modules that own them.

    A parameter of an unknown module counts as a matrix, outputs first, if it has two axes, and as ``"other"`` if not.
    """
    return tuple(group for group in _described(model) if group.name in names)


def _described(model: nn.Module) -> Iterator[ParameterGroup]:
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for attribute, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                name = f"{prefix}.{attribute}" if prefix else attribute
                owner = f"{prefix}.weight" if prefix else "weight"
                yield _describe(module, attribute, name, owner, tuple(parameter.shape))


def _describe(module: nn.Module, attribute: str, name: str, owner: str, shape: tuple[int, ...]) -> ParameterGroup:
    owned = owner if getattr(module, "weight", None) is not None else None
    if isinstance(module, _NORMS):
        axes = tuple(range(len(shape)))
        if attribute == "weight":
            return ParameterGroup(name, shape, "norm", output_axes=axes)
        return ParameterGroup(name, shape, "bias", output_axes=axes, owner=owned)
    if "bias" in attribute and len(shape) == 1:
        return ParameterGroup(name, shape, "bias", output_axes=(0,), owner=owned if attribute == "bias" else None)
    if isinstance(module, _ConvTransposeNd):
        return ParameterGroup(name, shape, "convolution", (1,), (0,), module.groups, "output")
    if isinstance(module, _ConvNd):
        return ParameterGroup(name, shape, "convolution", (0,), (1,), module.groups)
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return ParameterGroup(name, shape, "embedding", output_axes=(1,), input_axes=(0,))
    if isinstance(module, nn.Bilinear) and attribute == "weight":
        return ParameterGroup(name, shape, "other")
    if len(shape) == 2:
        return ParameterGroup(name, shape, "matrix", output_axes=(0,), input_axes=(1,))
    return ParameterGroup(name, shape, "other")


def _check_parameter(name: str, parameter: nn.Parameter) -> None:
    if is_lazy(parameter):
        msg = f"parameter {name!r} of a lazy module has no shape yet: call model(inputs) on one batch before measuring"
        raise ModelError(msg)
    if not parameter.dtype.is_floating_point:
        msg = (
            f"parameter {name!r} has dtype {parameter.dtype}, but curvature needs real floating-point parameters: "
            f"register integers as buffers, and split complex parameters into real and imaginary parts"
        )
        raise ModelError(msg)
    if parameter.dtype.itemsize < 4:
        msg = (
            f'parameter {name!r} has dtype {parameter.dtype}: pass dtype="float32" to measure a copy in that precision'
        )
        raise ModelError(msg)
    if parameter.is_meta or parameter.is_inference():
        msg = (
            f"parameter {name!r} is on the meta device, or was made in inference mode: make the model outside of both, "
            f"and load its weights with load_state_dict"
        )
        raise ModelError(msg)
