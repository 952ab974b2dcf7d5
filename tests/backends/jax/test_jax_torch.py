"""JAX against PyTorch: convolutional networks with the same weights, in the other layout, have the same metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from zoo.jax_networks import (
    assert_equal_reports,
    convolutional_network,
    convolve,
    ordered,
    residual_network,
)


class Plain(nn.Module):
    """``jax_images.convolutional_network``, in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu(self.norm(self.first(x)))
        x = nn.functional.max_pool2d(nn.functional.relu(self.grouped(x)), 2, stride=1)
        return self.head(x.mean(dim=(2, 3)))


class Block(nn.Module):
    """A residual block; with a stride, around a convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.second_norm(self.second(nn.functional.relu(self.first_norm(self.first(x)))))
        return nn.functional.relu(residual + self.shortcut(x))


class Residual(nn.Module):
    """``jax_images.residual_network``, in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.plain = Block(4, 4, stride=1)
        self.strided = Block(4, 6, stride=2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.strided(self.plain(nn.functional.relu(self.stem(x))))
        return self.head(x.mean(dim=(2, 3)))


def randomized(model: nn.Module) -> nn.Module:
    """In double precision and inference mode, with statistics that are not those of a new network."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.uniform_(0.5, 2)
            part.bias.data.normal_()
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return model.double().eval()


NAMES = {"running_mean": "mean", "running_var": "variance", "bias": "bias"}


def tree(state: Mapping[str, torch.Tensor]) -> Any:
    """Torch's ``block.layer.weight`` as a tree, in the same order and in the layout of JAX."""
    root = ordered()
    for name, value in state.items():
        *path, last = name.split(".")
        branch = root
        for part in path:
            branch = branch.setdefault(part, ordered())
        kind = NAMES.get(last, "scale" if value.ndim == 1 else "kernel")
        branch[kind] = jnp.asarray(value.detach().numpy().transpose(LAYOUTS[value.ndim]))
    return root


LAYOUTS = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
"""(outputs, inputs, height, width) in torch, (height, width, inputs, outputs) in JAX."""


def assert_equal_metrics(
    model: nn.Module, network: Callable[..., Any], groups: tuple[ish.ParameterGroup, ...] = ()
) -> None:
    x, y = torch.randn(9, 2, 8, 8, dtype=torch.float64), torch.randint(0, 3, (9,))
    statistics = tree({name: value for name, value in model.named_buffers() if "running" in name})
    ours = ish.oracle(
        lambda parameters, inputs: network(parameters, statistics, inputs),
        (np.moveaxis(x.numpy(), 1, -1), y.numpy()),
        parameters=tree(dict(model.named_parameters())),
        groups=groups,
    )
    assert_equal_reports(ours, ish.oracle(model, (x, y)))


@pytest.mark.slow
def test_a_convolutional_network_with_batch_norm_measures_as_in_torch() -> None:
    torch.manual_seed(0)
    grouped = ish.ParameterGroup("grouped.kernel", (3, 3, 2, 6), "convolution", (3,), (2,), channel_groups=2)
    assert_equal_metrics(randomized(Plain()), convolutional_network, (grouped,))


@pytest.mark.slow
def test_a_residual_network_measures_as_in_torch() -> None:
    torch.manual_seed(0)
    assert_equal_metrics(randomized(Residual()), residual_network)


class Smooth(nn.Module):
    """A convolution, and dense layers on its positions, with GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.wide, self.head = nn.Conv2d(2, 4, 3), nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.gelu(self.first(x), approximate="tanh").flatten(2).mT
        return self.head(nn.functional.gelu(self.wide(x), approximate="tanh").mean(1))


def smooth(p: Any, x: Any) -> Any:
    x = jax.nn.gelu(convolve(x, p["first"]["kernel"], padding=0) + p["first"]["bias"]).reshape(len(x), -1, 4)
    x = jax.nn.gelu(x @ p["wide"]["kernel"] + p["wide"]["bias"]).mean(1)
    return x @ p["head"]["kernel"] + p["head"]["bias"]


@pytest.mark.slow
def test_draws_at_layers_are_those_of_torch() -> None:
    torch.manual_seed(0)
    model = Smooth().double()
    x, y = torch.randn(9, 2, 5, 6, dtype=torch.float64), torch.randint(0, 3, (9,))
    rows = np.moveaxis(x.numpy(), 1, -1), y.numpy()
    ours = ish.oracle(smooth, rows, parameters=tree(dict(model.named_parameters())))
    theirs = ish.oracle(model, (x, y))
    found, expected = (
        o.to_numpy(o.sampled_residual_diagonal(o.parameters, o.layer_units(o.parameters), range(2), 3))
        for o in (ours, theirs)
    )
    for (name, mine), theirs_of in zip(found.items(), expected.values(), strict=True):
        other = theirs_of.transpose(LAYOUTS[theirs_of.ndim])
        error = np.abs(mine - other).max() / (np.abs(other).max() + 1e-3)
        assert error <= 1e-12, f"a draw of {name} differs by {error:.1e}"
