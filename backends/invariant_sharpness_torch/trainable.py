"""The parameters that are measured: those that require a gradient, and are real numbers with a value."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy

from invariant_sharpness.errors import ModelError


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient, by name; tied ones once.

    Raises
    ------
    ModelError
        If there is none, or one is complex, an integer, in eight bits, or without data.
    """
    for name, parameter in model.named_parameters():
        _check_parameter(name, parameter)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        msg = "no parameter of the model requires a gradient: there is nothing to measure (requires_grad_(True))"
        raise ModelError(msg)
    return trainable


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
    if parameter.dtype.itemsize < 2:
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
