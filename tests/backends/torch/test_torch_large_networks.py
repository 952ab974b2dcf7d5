"""The rules of the layers of a network of many parameters are tested on two examples, and a layer that has none is still found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness_torch import trusted_layers
from zoo.torch_derivatives import cross_entropy, example_gradients

EXAMPLES = 9


class Twice(nn.Linear):
    """A layer with a rule, in a class that does something else."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(inputs) ** 2


@pytest.fixture
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trusted_layers, "_LARGE", 10)


def problem() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), Twice(3, 3), nn.LayerNorm(3), nn.Linear(3, 5)).double()
    return model, torch.randn(EXAMPLES, 4, dtype=torch.float64), torch.arange(EXAMPLES) % 5


@pytest.mark.usefixtures("_large")
def test_rules_are_tested_on_two_examples() -> None:
    model, x, _ = problem()
    assert len(trusted_layers.tested_head(model, x)) == 2


def test_rules_of_a_small_network_are_tested_on_eight_examples() -> None:
    model, x, _ = problem()
    assert len(trusted_layers.tested_head(model, x)) == 8


@pytest.mark.usefixtures("_large")
def test_squares_of_a_large_network_are_those_of_autograd() -> None:
    model, x, y = problem()
    oracle: Any = ish.oracle(model, (x, y))
    found, gradients = oracle.gradient_second_moment(oracle.parameters), example_gradients(model, x, y, cross_entropy)
    for name, of_examples in gradients.items():
        expected = of_examples.square().mean(dim=0)
        assert torch.allclose(found[name], expected, rtol=1e-12), f"{name}: {found[name]}, {expected}"
