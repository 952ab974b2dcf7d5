"""Networks in single precision whose derivatives are wrong, for ``doctor.py``: what examines them has to find it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from doctor_networks import CLASSES, Make, built, classifier, conv_bn, images, numbers, tokens
from torch import nn
from torch.utils.checkpoint import checkpoint


class WeightNorm(nn.Module):
    """torch's own function, whose second derivative is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(32, 12))
        self.length = nn.Parameter(torch.rand(32, 1) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, torch._weight_norm(self.direction, self.length, 0))


class Resize(torch.autograd.Function):
    """Bilinear resizing with a backward pass that is taken for a constant, as TensorFlow has it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.shape = x.shape
        return nn.functional.interpolate(x, scale_factor=2, mode="bilinear")

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = torch.zeros(ctx.shape, dtype=gradient.dtype, requires_grad=True)
            resized = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
            return torch.autograd.grad(resized, x, gradient.detach())[0].detach()


class Once(torch.autograd.Function):
    """A smooth activation by hand, marked as differentiable once."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * (1 - torch.tanh(ctx.saved_tensors[0]) ** 2)


class Reversal(torch.autograd.Function):
    """The identity, with the negative gradient."""

    @staticmethod
    def forward(_ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return -gradient


class StraightThrough(torch.autograd.Function):
    """Rounding, with the gradient of the identity."""

    @staticmethod
    def forward(_ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.round(4 * x) / 4

    @staticmethod
    def backward(_ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class Applied(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Reentrant(nn.Module):
    """The first layers under a reentrant checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.inner, x, use_reentrant=True)


class Renormalized(nn.Module):
    """An embedding whose rows are cut to a length while it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 16, max_norm=1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x).mean(1)


def with_function(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], list[nn.Module]]:
    return lambda: [
        nn.Linear(12, 32),
        nn.ReLU(),
        Applied(function),
        nn.Linear(32, 32),
        nn.ReLU(),
        nn.Linear(32, CLASSES),
    ]


def resizing() -> list[nn.Module]:
    return [*conv_bn(1, 8, stride=2), Applied(Resize.apply), *conv_bn(8, 8), *classifier(8)]


LYING: dict[str, Make] = {
    "weight norm": built(lambda: [WeightNorm(), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5)], numbers),
    "bilinear resizing": built(resizing, images),
    "differentiable once": built(with_function(Once.apply), numbers),
    "reentrant checkpoint": built(lambda: [Reentrant(), nn.Linear(32, CLASSES)], numbers),
    "gradient reversal": built(with_function(Reversal.apply), numbers),
    "embedding with max_norm": built(
        lambda: [Renormalized(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, CLASSES)], tokens
    ),
    "straight through": built(with_function(StraightThrough.apply), numbers),
}
"""Networks whose derivatives are wrong, some in the gradient, some in the product alone."""
