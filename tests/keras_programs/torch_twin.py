"""The convolutional network of the Keras tests in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn


class _Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


def torch_twin(model: Any) -> nn.Module:
    """Kernels are (out, in, h, w) instead of (h, w, in, out), and so on."""
    twin = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4, eps=1e-3),
        nn.ReLU(),
        nn.Conv2d(4, 8, 2, groups=4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.ConvTranspose2d(8, 3, 2),
        nn.ReLU(),
        _Mean(),
        nn.Linear(3, 3),
    ).double()
    values = [np.array(variable) for variable in model.weights]
    kernel, bias, gamma, beta, mean, variance, depthwise, depthwise_bias, transposed, transposed_bias, dense, last = (
        values
    )
    arrays = {
        "0.weight": kernel.transpose(3, 2, 0, 1),
        "0.bias": bias,
        "1.weight": gamma,
        "1.bias": beta,
        "1.running_mean": mean,
        "1.running_var": variance,
        "1.num_batches_tracked": np.array(0),
        "3.weight": depthwise.transpose(2, 3, 0, 1).reshape(8, 1, 2, 2),
        "3.bias": depthwise_bias,
        "6.weight": transposed.transpose(3, 2, 0, 1),
        "6.bias": transposed_bias,
        "9.weight": dense.T,
        "9.bias": last,
    }
    twin.load_state_dict({name: torch.as_tensor(np.ascontiguousarray(array)) for name, array in arrays.items()})
    return twin.eval()
