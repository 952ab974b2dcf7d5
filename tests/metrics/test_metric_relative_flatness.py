"""Relative flatness: its double sum from a dense Hessian, and which rescalings it sees."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.coordinates.scales import balanced
from invariant_sharpness.symmetries import chain_rescalings
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

SIZES = (4, 5, 6, 3)


def oracle() -> NetworkOracle:
    rng = np.random.default_rng(0)
    network = ReluNetwork([rng.normal(size=(n, m)) for m, n in pairwise(SIZES)], None)
    return NetworkOracle(network, rng.normal(size=(30, 4)), rng.integers(3, size=30))


def dense_kappa(model: nn.Module, weight: torch.Tensor, x: torch.Tensor, y: torch.Tensor, name: str) -> float:
    """The double sum over rows, from all second derivatives in the weight."""

    def loss(w: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(torch.func.functional_call(model, {name: w}, x), y)

    rows = len(weight)
    H = torch.func.hessian(loss)(weight).reshape(rows, weight[0].numel(), rows, -1)
    flat = weight.reshape(rows, -1)
    return float(torch.einsum("sk,tk,sjtj->", flat, flat, H).detach())


@pytest.mark.parametrize("name", [pytest.param("0.weight", marks=pytest.mark.slow), "2.weight"])
def test_value_is_that_of_the_dense_hessian(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 2), nn.Flatten(), nn.Linear(16, 3)).double()
    x, y = torch.randn(20, 2, 3, 3, dtype=torch.float64), torch.arange(20) % 3
    weight = dict(model.named_parameters())[name].detach().clone()
    expected = dense_kappa(model, weight, x, y, name)
    found = ish.relative_flatness(ish.oracle(model, (x, y)), layer=name, probes=2000)
    low, high = found.interval(0.999)
    assert low <= expected <= high, f"{found}, but the dense value is {expected}"
    assert high - low < 0.3 * abs(expected), f"an interval from {low} to {high} tells nothing about {expected}"


def test_default_is_the_last_weight() -> None:
    model = oracle()
    assert ish.relative_flatness(model).value == ish.relative_flatness(model, layer=model.groups[-1].name).value


def scaled(model: NetworkOracle, unit_layer: int) -> ish.Moved:
    rescaling = chain_rescalings(model.groups)[unit_layer]
    factors = np.ldexp(1.0, np.random.default_rng(1).integers(-9, 10, size=SIZES[1 + unit_layer]))
    return ish.Moved(model, rescaling.apply(model, model.parameters, factors))


def test_rescaling_of_the_outputs_of_the_layer_is_not_seen() -> None:
    model = oracle()
    middle = model.groups[1].name
    before, after = (ish.relative_flatness(o, layer=middle).value for o in (model, scaled(model, 1)))
    assert abs(after / before - 1) <= 1e-12, f"moved from {before} to {after}"


def test_rescaling_of_the_inputs_of_the_layer_is_seen_but_not_in_balanced_coordinates() -> None:
    model = oracle()
    middle, there = model.groups[1].name, scaled(model, 0)
    before, after = (ish.relative_flatness(o, layer=middle).value for o in (model, there))
    assert abs(after / before - 1) > 0.1, f"stayed at {before}, {after}"
    ours = [ish.relative_flatness(ish.Scaled(o, balanced(o)), layer=middle).value for o in (model, there)]
    assert abs(ours[1] / ours[0] - 1) <= 1e-9, f"moved from {ours[0]} to {ours[1]} in balanced coordinates"


def test_unknown_layer_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="there is no weight 'head'; the weights are"):
        ish.relative_flatness(oracle(), layer="head")


def test_oracle_without_weights_is_told_so() -> None:
    model: Any = ish.oracle(nn.Sequential(nn.LayerNorm(3)).double(), (torch.randn(5, 3), torch.arange(5) % 3))
    with pytest.raises(ValueError, match="is that of a weight"):
        ish.relative_flatness(model)
