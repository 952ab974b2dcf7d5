"""Sampled outputs in PyTorch: the same draws as on NumPy, over positions and in modules of the user's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_groups import MOST_OUTPUTS
from invariant_sharpness_numpy import ReluNetwork

DRAWS = range(3, 7)


def drawn(oracle: Any, draws: range = DRAWS) -> list[Any]:
    names = frozenset(group.name for group in oracle.groups)
    vector = oracle.sampled_gauss_newton_diagonal(oracle.parameters, names, draws, 5)
    return [values for _, values in sorted(oracle.to_numpy(vector).items())]


class OwnLinear(nn.Module):
    """A layer that the library has no rule for."""

    def __init__(self, like: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(like.weight.detach().clone())
        self.bias = nn.Parameter(like.bias.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("...i,oi->...o", x, self.weight) + self.bias


def network(last: type[nn.Module] | None = None, outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    head = nn.Linear(6, outputs)
    layers = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), OwnLinear(head) if last is OwnLinear else head)
    return layers.double()


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("last", [nn.Linear, OwnLinear])
def test_draws_are_those_of_the_reference_backend(loss: str, last: type[nn.Module]) -> None:
    model = network(last)
    random = np.random.default_rng(1)
    x, y = random.normal(size=(11, 4)), random.integers(0, 3, 11)
    targets = random.normal(size=(11, 3)) if loss == "mse" else y
    arrays = [p.detach().numpy() for p in model.parameters()]
    twin = ish.oracle(ReluNetwork(arrays[::2], arrays[1::2]), (x, targets), loss=loss)
    ours = ish.oracle(model, (x, targets), loss=loss, batch_size=4)
    for mine, theirs in zip(drawn(ours), drawn(twin), strict=True):
        assert np.allclose(mine, theirs, rtol=1e-11, atol=1e-14), f"{mine} instead of {theirs}"


def test_draws_over_positions_average_to_the_exact_diagonal() -> None:
    """Tokens of an example have signs of their own, so that squares of their sum have no cross terms on average."""
    oracle: Any = ish.oracle(network(), (torch.randn(5, 7, 4, dtype=torch.float64), torch.randint(0, 3, (5, 7))))
    names = frozenset(group.name for group in oracle.groups)
    exact = oracle.to_numpy(oracle.gauss_newton_diagonal(oracle.parameters, names))
    draws = [drawn(oracle, range(k, k + 1)) for k in range(300)]
    for number, (name, expected) in enumerate(sorted(exact.items())):
        values = np.stack([draw[number] for draw in draws])
        off = np.abs(values.mean(axis=0) - expected) / (values.std(axis=0) / np.sqrt(300))
        assert off.max() < 4.5, f"{name} is off by {off.max():.1f} standard errors"


def test_language_model_is_sampled_and_certified() -> None:
    model = network(outputs=MOST_OUTPUTS // 4)
    oracle = ish.oracle(model, (torch.randn(6, 5, 4, dtype=torch.float64), torch.randint(0, 3, (6, 5))))
    estimate = ish.normalized_sharpness(oracle, probes=16)
    assert estimate.method == "16 samples of the outputs", estimate
    assert {part.note for part in estimate.per_group.values()} == {""}, estimate.per_group


def test_loss_of_the_users_own_is_probed() -> None:
    def halved(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, targets, reduction="none") / 2

    oracle = ish.oracle(
        network(outputs=MOST_OUTPUTS + 1), (torch.randn(6, 4, dtype=torch.float64), torch.arange(6)), loss=halved
    )
    assert "probes" in ish.normalized_sharpness(oracle, probes=8).method
