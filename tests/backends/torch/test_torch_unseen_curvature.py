"""Curvature of a few examples that the affine test does not look at, under a loss whose Gauss-Newton matrix is zero."""

from __future__ import annotations

import torch
from torch import nn

import invariant_sharpness as ish

EXAMPLES, ODD = 400, 4


class Bent(nn.Module):
    """w x + w max(w x - 5, 0): linear in w, but for large inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product = x @ self.weight
        return product + torch.relu(product - 5) @ self.weight


def test_a_diagonal_of_zeros_is_tested_on_all_examples() -> None:
    x = torch.ones(EXAMPLES, 1, dtype=torch.float64)
    x[ODD] = 10
    oracle = ish.oracle(Bent(), (x, torch.zeros_like(x)), loss=nn.L1Loss())
    found, expected = float(ish.hessian_diagonal(oracle)["weight"].values[0, 0]), 2 * 10 / EXAMPLES
    assert abs(found - expected) <= 1e-12, f"the diagonal is {found}, but one example of {EXAMPLES} adds {expected}"
