"""The ReLU networks of the demonstration, in PyTorch: trained here, or with weights of another framework."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from invariant_sharpness.runtime.exclusive import exclusive
from invariant_sharpness.runtime.progress import track
from invariant_sharpness_torch.holding import random_state

_EPOCHS = 600
_BATCH = 128


@exclusive()
def train_network(
    x: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], *, sizes: tuple[int, ...], seed: int
) -> nn.Sequential:
    """Return a ReLU network in float64 with layers of these sizes, trained by Adam until it fits every example."""
    inputs, targets = torch.as_tensor(x, dtype=torch.float64), torch.as_tensor(labels)
    with random_state(seed, ()):
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(sizes):
            layers += [nn.Linear(width_in, width_out, dtype=torch.float64), nn.ReLU()]
        network = nn.Sequential(*layers[:-1])
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in track(range(_EPOCHS), "training", _EPOCHS):
            for rows in torch.randperm(len(inputs)).split(_BATCH):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(inputs[rows]), targets[rows]).backward()
                optimizer.step()
            if accuracy(network, x, labels) == 1.0:
                break
    network.zero_grad()
    return network.eval()


def accuracy(model: nn.Module, x: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    """Share of the examples that the model classifies as labelled."""
    with torch.no_grad():
        outputs = model(torch.as_tensor(x, dtype=next(model.parameters()).dtype))
    return float((outputs.argmax(dim=1).numpy() == labels).mean())


def relu_network(
    weights: Sequence[npt.NDArray[np.float64]], biases: Sequence[npt.NDArray[np.float64]] | None
) -> nn.Sequential:
    """Return a ReLU network in float64 with these matrices (outputs, inputs) and vectors."""
    layers: list[nn.Module] = []
    for index, weight in enumerate(weights):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=biases is not None, device="meta")
        layer.weight = _parameter(weight)
        if biases is not None:
            layer.bias = _parameter(biases[index])
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def _parameter(values: npt.NDArray[np.float64]) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))
