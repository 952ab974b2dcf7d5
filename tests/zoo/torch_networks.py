"""Networks of the tests in PyTorch: fixed ones, random chains of layers, and a problem of three classes to be spoiled in one place."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn


class ConvolutionalNetwork(nn.Module):
    """Stride, groups, batch norm, pooling, a transposed convolution and a dense layer; ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False)
        self.transposed = nn.ConvTranspose2d(6, 4, 2, groups=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu(self.norm(self.first(x)), inplace=True)
        x = nn.functional.relu(self.grouped(x), inplace=True)
        x = nn.functional.max_pool2d(nn.functional.relu(self.transposed(x)), 2)
        return self.head(x.mean(dim=(2, 3)))


class ResidualNetwork(nn.Module):
    """Two residual blocks, one around a dense pair of layers and one around a single layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(5, 6)
        self.inner = nn.Linear(6, 4)
        self.outer = nn.Linear(4, 6)
        self.single = nn.Linear(6, 6, bias=False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu(self.stem(x))
        x = x + self.outer(nn.functional.relu(self.inner(x)))
        x = x + nn.functional.relu(self.single(x))
        return self.head(x)


def multilayer_perceptron() -> nn.Module:
    """Three dense layers with biases."""
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3))


def random_problem(kind: str, *, examples: int = 11, seed: int = 0) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A float64 network in eval mode with random parameters and statistics, inputs and labels of 3 classes."""
    torch.manual_seed(seed)
    model = {"mlp": multilayer_perceptron, "cnn": ConvolutionalNetwork, "resnet": ResidualNetwork}[kind]()
    model = model.double().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    shape = (examples, 2, 8, 8) if kind == "cnn" else (examples, 5)
    return model, torch.randn(shape, dtype=torch.float64), torch.randint(0, 3, (examples,))


def model_and_inputs(
    kind: str, widths: tuple[int, ...], *, biases: bool, seed: int, dtype: str
) -> tuple[nn.Module, torch.Tensor]:
    """A ReLU network of 3 outputs with these hidden widths, and six random inputs."""
    torch.manual_seed(seed)
    model = _perceptron(widths, biases) if kind == "torch mlp" else _convolutions(widths, biases)
    x = torch.randn(6, 4) if kind == "torch mlp" else torch.randn(6, 2, 4, 4)
    precision = getattr(torch, dtype)
    return model.to(precision), x.to(precision)


def _perceptron(widths: tuple[int, ...], biases: bool) -> nn.Module:
    sizes = (4, *widths)
    layers = [[nn.Linear(m, n, bias=biases), nn.ReLU()] for m, n in pairwise(sizes)]
    return nn.Sequential(*(part for layer in layers for part in layer), nn.Linear(widths[-1], 3, bias=biases))


def _convolutions(widths: tuple[int, ...], biases: bool) -> nn.Module:
    channels = (2, *widths)
    layers = [[nn.Conv2d(m, n, 3, padding=1, bias=biases), nn.ReLU()] for m, n in pairwise(channels)]
    pooled = [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * widths[-1], 3, bias=biases)]
    return nn.Sequential(*(part for layer in layers for part in layer), *pooled)


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
