"""Outputs and targets of all kinds, and an oracle with a loss against torch itself: the loss of all data in one batch, its gradient, and its dense Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian

import invariant_sharpness as ish

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


N, K, IGNORED = 9, 4, -100
RANDOM = torch.Generator().manual_seed(5)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=RANDOM)


X = random(N, 3)
LABELS = torch.tensor([0, 1, 2, 3, 1, IGNORED, 1, 2, 0])
MIXED, SOFT, NUMBERS = random(N, K).softmax(1), random(N, K).sigmoid(), 3 * random(N, K)
COUNTS, SIGNS = torch.arange(N * K).reshape(N, K) % 5, torch.where(random(N, K) > 0, 1.0, -1.0).double()
CLASSES, WEIGHT = LABELS.clamp(min=0), torch.tensor([0.5, 2.0, 0.25, 1.0], dtype=torch.float64)
OF_CLASS_TWO_NOTHING = torch.tensor([0.5, 2.0, 0.0, 1.0], dtype=torch.float64)


def network(outputs: int = K, positive: bool = False) -> nn.Module:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, outputs)).double()
    if positive:
        with torch.no_grad():
            model[2].weight.abs_()
            model[2].bias.abs_().add_(0.1)
    return model


def dense_diagonal(model: nn.Module, x: torch.Tensor, y: torch.Tensor, mean_loss: Loss) -> dict[str, np.ndarray]:
    """The diagonal for a loss that averages by itself."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    blocks = hessian(lambda values: mean_loss(functional_call(model, values, (x,)), y))(parameters)
    return {n: blocks[n][n].reshape(p.numel(), -1).diagonal().reshape(p.shape).numpy() for n, p in parameters.items()}


def assert_agrees(model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Any, mean_loss: Loss) -> None:
    """Loss, gradient and diagonal over three uneven batches are those of the dense reference."""
    parts = [(x[:2], y[:2]), (x[2:3], y[2:3]), (x[3:], y[3:])]
    oracle = ish.oracle(model, parts, loss=loss)
    assert oracle.loss(oracle.parameters) == pytest.approx(float(mean_loss(model(x), y).detach()), rel=1e-12)
    slopes = torch.autograd.grad(mean_loss(model(x), y), list(model.parameters()))
    gradient = oracle.gradient(oracle.parameters)
    diagonal = ish.hessian_diagonal(oracle)
    for (name, expected), slope in zip(dense_diagonal(model, x, y, mean_loss).items(), slopes, strict=True):
        error = float((gradient[name] - slope).abs().max() / slope.abs().max())
        assert error <= 1e-11, f"the gradient in {name} is off by {error:.1e}"
        assert diagonal[name].method == "exact", f"{name} was refused"
        error = np.abs(diagonal[name].values - expected).max()
        assert error <= 1e-10 * np.abs(expected).max(), f"the diagonal of {name} is off by {error:.1e}"
