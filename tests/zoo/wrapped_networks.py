"""A small network of torch, functions of it as modules, and what is measured of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import invariant_sharpness as ish
from zoo.model_trace import Trace, assert_untouched

Function = Callable[[nn.Module, torch.Tensor], torch.Tensor]
METRICS = ("hessian_trace", "normalized_sharpness", "hessian_spectral_norm", "fisher_rao_norm")


def inputs(*, examples: int = 6) -> torch.Tensor:
    return torch.randn(examples, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def targets(*, examples: int = 6) -> torch.Tensor:
    return torch.randn(examples, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 5)).double()


class Around(nn.Module):
    """A function of a network and its inputs."""

    def __init__(self, function: Function, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.body, x)


def values(model: nn.Module, loss: Any = "mse", **options: Any) -> dict[str, float]:
    """The measured values; the model and the data are what they were."""
    data = inputs(), targets()
    kept, trace = [array.clone() for array in data], Trace(model)
    report = ish.measure(ish.oracle(model, data, loss, **options), METRICS)
    assert_untouched(trace)
    assert all(torch.equal(*pair) for pair in zip(kept, data, strict=True)), "the data were overwritten"
    return {name: estimate.value for name, estimate in report.items()}
