"""Measures that see more of a network than its loss, and how to hand them the place and the coordinates of an oracle.

They are for `public_measures.py`, which certifies them. `docs/public_measures.md` says where each comes from.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.coordinates import balanced

Measure = Callable[[ish.CurvatureOracle], Any]
ModuleMeasure = Callable[[nn.Module, torch.Tensor, torch.Tensor], float]


class InCoordinates(nn.Module):
    """A network as a function of phi = w / s, its only parameters: what other packages take to be a network."""

    def __init__(self, network: nn.Module, oracle: ish.Scaled) -> None:
        super().__init__()
        self.network = (network,)  # in a tuple, so that its own parameters are not found
        self.scales = oracle.scale.arrays
        self.coordinates = nn.ParameterList([nn.Parameter(oracle.parameters[name].clone()) for name in self.scales])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pairs = zip(self.scales.items(), self.coordinates, strict=True)
        weights = {name: scale * phi for (name, scale), phi in pairs}
        return torch.func.functional_call(self.network[0], weights, (x,))


def network_at(network: nn.Module, oracle: ish.CurvatureOracle) -> nn.Module:
    """A copy of the network with the parameters of an oracle of it, in the coordinates of the oracle."""
    other = copy.deepcopy(network)
    if isinstance(oracle, ish.Scaled):
        return InCoordinates(other, oracle)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            parameter.copy_(oracle.parameters[name])
    return other


def of_module(measure: ModuleMeasure, network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Measure:
    """The measure as a function of an oracle, always with the same random numbers."""

    def measured(oracle: ish.CurvatureOracle) -> float:
        torch.manual_seed(0)
        return float(measure(network_at(network, oracle), x, y))

    measured.__name__ = measure.__name__
    return measured


def in_balanced_coordinates(measure: Measure) -> Measure:
    """The same measure of the same network, as a function of phi = w / s with the balanced scale s."""

    def measured(oracle: ish.CurvatureOracle) -> Any:
        return measure(ish.Scaled(oracle, balanced(oracle)))

    measured.__name__ = measure.__name__
    return measured


def path_norm(network: nn.Module, x: torch.Tensor, _y: torch.Tensor) -> float:
    """Sum of the outputs of the network with squared parameters, at an input of ones."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.pow_(2)
        return float(network(torch.ones_like(x[:1])).sum())


def relative_flatness_by_deviation(network: nn.Module, x: torch.Tensor, _y: torch.Tensor) -> float:
    """Of Petzka et al.: features over their standard deviation, constant ones as they are (``measure_comparison.py``)."""
    return _relative_flatness(network, x, lambda variance: torch.where(variance > 0, variance, 1.0).sqrt())


def relative_flatness_by_variance(network: nn.Module, x: torch.Tensor, _y: torch.Tensor) -> float:
    """Features over their variance (``measure_neuronwise.py``); constant ones as they are, instead of a division by zero."""
    return _relative_flatness(network, x, lambda variance: torch.where(variance > 0, variance, 1.0))


def relative_flatness_of_varying_features(network: nn.Module, x: torch.Tensor, _y: torch.Tensor) -> float:
    """Features over their standard deviation, constant ones left out."""
    return _relative_flatness(network, x, torch.sqrt)


def _relative_flatness(network: nn.Module, x: torch.Tensor, scale: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """The sum of <w_s, w_t> tr H_st over the rows of the last weight, of the network with its features over their scale."""
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[torch.Tensor] = []
    with torch.no_grad(), last.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0])):
        probabilities = network(x).softmax(dim=1)
        divisor = scale(seen[0].var(dim=0, correction=0))
        features, weight = seen[0] / torch.where(divisor > 0, divisor, 1.0), last.weight * divisor
        gram = weight @ weight.T
        shares = probabilities @ gram.diagonal() - ((probabilities @ gram) * probabilities).sum(dim=1)
        return float((features.square().sum(dim=1) * shares).mean())


CLAIMS: dict[ModuleMeasure, set[str]] = {
    path_norm: set(),
    relative_flatness_by_deviation: {"layer"},
    relative_flatness_by_variance: {"layer"},
    relative_flatness_of_varying_features: {"layer"},
}
"""What each is said to survive. Empty where nothing is said."""
