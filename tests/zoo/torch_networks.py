"""Random plain chains of layers in PyTorch, for the invariance tests."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


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
