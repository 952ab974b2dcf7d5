"""A copy of a model at other parameters, for metrics that take models; and a given ReLU network as a model."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from invariant_sharpness.adapters.model_metrics import foreign_oracle
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness_torch.oracle import TorchOracle


def copied_model(oracle: object, parameters: ParameterVector) -> tuple[nn.Module, Any, Any]:
    """A copy of the oracle's model with these parameters, all inputs, and all targets.

    Raises
    ------
    ModelError
        If it is not the oracle of a module.
    DataError
        If the examples do not fit into one batch.
    """
    if not isinstance(oracle, TorchOracle):
        raise foreign_oracle(oracle, "PyTorch")
    copy = deepcopy(oracle.model)
    copy.zero_grad()
    named = dict(copy.named_parameters())
    with torch.no_grad():
        for name, values in parameters.arrays.items():
            named[name].copy_(values)
    return copy, *oracle.all_examples()


def relu_network(
    weights: Sequence[npt.NDArray[np.float64]], biases: Sequence[npt.NDArray[np.float64]] | None
) -> nn.Sequential:
    """A ReLU network in float64 with these matrices (outputs, inputs) and vectors."""
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
