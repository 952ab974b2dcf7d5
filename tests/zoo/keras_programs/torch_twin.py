"""Networks of the Keras tests in PyTorch, in double precision."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import torch
from torch import nn

WITH_WEIGHTS = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.Linear)


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(2), normalization(), nn.ReLU())
        self.block = nn.Sequential(
            convolution(4, groups=2), normalization(), nn.ReLU(), convolution(4), normalization()
        )
        self.head = nn.Sequential(nn.ReLU(), Mean(), nn.Linear(4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.stem(x)
        y: torch.Tensor = self.head(self.block(shortcut) + shortcut)
        return y


def residual_twin(model: keras.Model) -> nn.Module:
    return with_weights_of(model, Residual())


def convolutional_twin(model: keras.Model) -> nn.Module:
    twin = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        normalization(),
        nn.ReLU(),
        nn.Conv2d(4, 8, 2, groups=4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.ConvTranspose2d(8, 3, 2),
        nn.ReLU(),
        Mean(),
        nn.Linear(3, 3),
    )
    return with_weights_of(model, twin)


def convolution(channels: int, groups: int = 1) -> nn.Module:
    return nn.Conv2d(channels, 4, 3, padding=1, groups=groups, bias=False)


def normalization() -> nn.Module:
    return nn.BatchNorm2d(4, eps=1e-3)


def with_weights_of(model: keras.Model, twin: nn.Module) -> nn.Module:
    """The twin with the weights of the layers, which stand in the same order."""
    modules = [module for module in twin.double().modules() if isinstance(module, WITH_WEIGHTS)]
    for module, layer in zip(modules, [layer for layer in model.layers if layer.weights], strict=True):
        arrays = state(layer, {variable.name: np.array(variable) for variable in layer.weights})
        module.load_state_dict({name: torch.as_tensor(np.ascontiguousarray(array)) for name, array in arrays.items()})
    return twin.eval()


def state(layer: keras.Layer, arrays: dict[str, Any]) -> dict[str, Any]:
    """The weights of a layer under the names and in the layout of PyTorch."""
    if isinstance(layer, keras.layers.BatchNormalization):
        names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        return {names[name]: array for name, array in arrays.items()} | {"num_batches_tracked": np.array(0)}
    bias = {name: array for name, array in arrays.items() if name == "bias"}
    return {"weight": weight(layer, arrays["kernel"]), **bias}


def weight(layer: keras.Layer, kernel: Any) -> Any:
    """Shape (out, in, h, w) instead of (h, w, in, out), and so on."""
    if isinstance(layer, keras.layers.Dense):
        return kernel.T
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return kernel.transpose(2, 3, 0, 1).reshape(-1, 1, *kernel.shape[:2])
    return kernel.transpose(3, 2, 0, 1)
