"""Models in half precision compute as they are; everything that is added up is in single precision.

The vectors of such a parameter are in float32, which holds every value of bfloat16 and float16 exactly. They are rounded
where the model sees them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from invariant_sharpness_torch.forward import Forward


def held_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which vectors of a parameter of this type are held: float32, if it is shorter."""
    return torch.promote_types(dtype, torch.float32)


def held(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in the type in which it is held; itself, if it is that already."""
    return tensor.to(held_dtype(tensor.dtype))


def with_held_outputs(forward: Forward) -> Forward:
    """The forward pass with outputs that are not rounded again: the loss is computed in single precision at least."""

    def widened(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        outputs, targets = forward(model, batch)
        return held(outputs), targets

    return widened


def model_rounding(model: nn.Module) -> float:
    """Unit of rounding of the least precise parameter, frozen ones included."""
    return max(torch.finfo(parameter.dtype).eps for parameter in model.parameters())
