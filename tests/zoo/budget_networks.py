"""Networks for budgets: a perceptron, an LSTM whose recurrent weights are squared one example at a time, and convolutions."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn

import invariant_sharpness as ish

Problem = tuple[nn.Module, torch.Tensor, torch.Tensor]


@cache
def perceptron(outputs: int = 3) -> Problem:
    torch.manual_seed(0)
    layers = nn.Linear(6, 30), nn.GELU(), nn.Linear(30, 20), nn.GELU(), nn.Linear(20, outputs)
    x, y = torch.randn(50, 6, dtype=torch.float64), torch.randint(0, outputs, (50,))
    return nn.Sequential(*layers).double(), x, y


class Recurrent(nn.Module):
    """An LSTM, whose recurrent weights belong to no layer that every example passes once."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(4, width, batch_first=True), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0][:, -1])


@cache
def recurrent() -> Problem:
    torch.manual_seed(0)
    return Recurrent().double(), torch.randn(50, 5, 4, dtype=torch.float64), torch.randint(0, 3, (50,))


@cache
def convolutions(examples: int = 50) -> Problem:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 6, 3), nn.GroupNorm(2, 6), nn.SiLU(), nn.Conv2d(6, 5, 3), nn.GELU(), nn.Flatten()
    x, y = torch.randn(examples, 1, 7, 7, dtype=torch.float64), torch.randint(0, 3, (examples,))
    return nn.Sequential(*layers, nn.Linear(45, 3)).double(), x, y


def oracle_of(problem: Problem) -> Any:
    model, x, y = problem
    return ish.oracle(model, (x, y))
