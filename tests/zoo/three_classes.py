"""A small problem of three classes that is as it should be, to be spoiled in one place."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zoo.networks import multilayer_perceptron


def network() -> nn.Module:
    torch.manual_seed(0)
    return multilayer_perceptron()


def inputs(examples: int = 8, features: int = 5) -> torch.Tensor:
    return torch.randn(examples, features, generator=torch.Generator().manual_seed(1))


def labels(examples: int = 8) -> torch.Tensor:
    return torch.arange(examples) % 3


def changed(tensor: torch.Tensor, index: Any, value: float) -> torch.Tensor:
    """A copy with another entry."""
    copy = tensor.clone()
    copy[index] = value
    return copy


GOOD = (inputs(), labels())
