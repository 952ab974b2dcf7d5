"""Nothing is called a rescaling symmetry that moves the function: activations that are homogeneous only in parts, units that are off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.symmetries import find_symmetries

PARTLY_HOMOGENEOUS: dict[str, Callable[[], nn.Module]] = {
    "ReLU6": nn.ReLU6,
    "hard tanh": nn.Hardtanh,
    "threshold": lambda: nn.Threshold(0.1, 0.0),
    "hard shrink": lambda: nn.Hardshrink(0.2),
    "hard sigmoid": nn.Hardsigmoid,
    "hard swish": nn.Hardswish,
    "ReLU up to 50": lambda: nn.Hardtanh(0.0, 50.0),
}
every_activation = pytest.mark.parametrize("activation", PARTLY_HOMOGENEOUS)


def perceptron(activation: Callable[[], nn.Module], seed: int, examples: int = 40) -> ish.CurvatureOracle:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 5), activation(), nn.Linear(5, 3)).double()
    return ish.oracle(model, (torch.randn(examples, 4).double(), torch.arange(examples) % 3))


@every_activation
def test_units_with_limits_have_none(activation: str) -> None:
    found = find_symmetries(perceptron(PARTLY_HOMOGENEOUS[activation], 0))
    assert not len(found), str(found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 31))
@every_activation
def test_units_with_limits_have_none_in_thirty_networks(activation: str, seed: int) -> None:
    found = find_symmetries(perceptron(PARTLY_HOMOGENEOUS[activation], seed))
    assert not len(found), str(found)


class Gate(nn.Module):
    """ReLU6 on the units of one half, ReLU on the others."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(x.shape[-1]) < x.shape[-1] // 2, x.clamp(0, 6), x.relu())


@pytest.mark.parametrize("off_on", ["the first half", "all of the data"])
def test_a_unit_that_is_off_on_the_first_examples_is_judged_where_it_is_on(off_on: str) -> None:
    """Sorted data: the bias switches all units off where the first input is negative, or everywhere."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), Gate(), nn.Linear(6, 3)).double()
    x = torch.randn(64, 4, dtype=torch.float64)
    x = x[x[:, 0].argsort()]
    with torch.no_grad():
        model[0].weight[:, 0], model[0].bias[:] = 20.0, 0.0 if off_on == "the first half" else -1000.0
    found = find_symmetries(ish.oracle(model, (x, torch.arange(64) % 3)))
    expected = {f"0.weight[{i}], 0.bias[{i}] up, 2.weight[:, {i}] down" for i in (3, 4, 5)}
    assert set(map(str, found)) == expected, str(found)


def test_units_that_are_off_at_all_points_are_idle_and_not_rescalable() -> None:
    """Above a threshold that nothing reaches they would not be homogeneous either."""
    found = find_symmetries(perceptron(lambda: nn.Threshold(1e9, 0.0), 0))
    assert not len(found), str(found)
    assert found.idle == 5 + 4 + 5 + 3 + 5, f"{found.idle} idle, but all are except for the last bias:\n{found}"


@pytest.mark.parametrize("seed", range(3))
def test_no_move_changes_the_loss_of_the_data(seed: int) -> None:
    on = perceptron(nn.ReLU, seed, examples=100)
    found = find_symmetries(on)
    start = on.loss(on.parameters)
    for generator in range(len(found)):
        for power in (-10, 10):
            logarithms = power * (np.arange(len(found)) == generator)
            change = on.loss(found.rescaling(logarithms).apply(on.parameters)) - start
            assert change == 0, f"{found[generator]} times 2**{power} changes the loss by {change:.1e}"


def test_what_only_the_loss_of_all_data_shows_is_refused() -> None:
    """A unit that saturates on one example, which is none of those whose outputs are compared."""

    class Limited(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(self.rare > 0, x.clamp(max=6), x).relu()

    limited: Any = Limited()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            limited.rare = x[:, :1]
            return self.outer(limited(self.inner(x[:, 1:])))

    torch.manual_seed(0)
    x, model = torch.randn(200, 4).double(), Model().double()
    x[:, 0] = 0.0
    x[3, 0] = 1.0
    with torch.no_grad():
        model.inner.bias[:] = 4.0  # on, and below the limit
    found = find_symmetries(ish.oracle(model, (x, torch.arange(200) % 3)))
    assert not len(found), str(found)
    assert found.refused == 4, str(found)
    assert not found.complete, str(found)
