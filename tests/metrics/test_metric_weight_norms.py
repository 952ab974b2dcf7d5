"""Norms of the weights: their values by dense decompositions, and section 5.1 of Tsuzuku et al., which rescales them away."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.metrics.weight_norms import spectral_norm
from invariant_sharpness.symmetries import chain_rescalings
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork


def oracle() -> NetworkOracle:
    rng = np.random.default_rng(0)
    network = ReluNetwork([rng.normal(size=(n, m)) for m, n in pairwise((4, 6, 3))], None)
    return NetworkOracle(network, rng.normal(size=(20, 4)), rng.integers(3, size=20))


def moved(model: NetworkOracle, factors: Any) -> ish.Moved:
    (rescaling,) = chain_rescalings(model.groups)
    return ish.Moved(model, rescaling.apply(model, model.parameters, np.asarray(factors)))


@pytest.mark.parametrize("shape", [(3, 50), (50, 3), (7, 7), (1, 4), (4, 1)])
def test_spectral_norm_is_the_largest_singular_value(shape: tuple[int, int]) -> None:
    W = np.random.default_rng(1).normal(size=shape)
    assert abs(spectral_norm(W) / np.linalg.norm(W, 2) - 1) <= 1e-14, f"{spectral_norm(W)}"


def test_norms_are_those_of_numpy() -> None:
    model = oracle()
    A, B = model.network.weights
    norms = {f: f(model).value for f in (ish.weight_spectral_norm, ish.weight_frobenius_norm, ish.stable_rank)}
    expected = {
        ish.weight_spectral_norm: np.linalg.norm(A, 2) * np.linalg.norm(B, 2),
        ish.weight_frobenius_norm: np.hypot(np.linalg.norm(A), np.linalg.norm(B)),
        ish.stable_rank: sum((np.linalg.norm(W) / np.linalg.norm(W, 2)) ** 2 for W in (A, B)),
    }
    for f, value in expected.items():
        assert abs(norms[f] / value - 1) <= 1e-13, f"{f.__name__} is {norms[f]} instead of {value}"


def test_convolution_is_the_matrix_of_its_filters() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten()).double()
    found = ish.weight_spectral_norm(ish.oracle(model, (torch.randn(5, 2, 3, 3), torch.arange(5) % 4))).value
    expected = float(torch.linalg.matrix_norm(model[0].weight.detach().reshape(4, -1), 2))
    assert abs(found / expected - 1) <= 1e-13, f"{found} instead of {expected}"


def test_weights_of_zero_have_no_stable_rank() -> None:
    network = ReluNetwork([np.zeros((3, 4)), np.ones((2, 3))], None)
    found = ish.stable_rank(NetworkOracle(network, np.ones((5, 4)), np.arange(5) % 2))
    assert [round(group.value, 12) for group in found.per_group.values()] == [0.0, 1.0], f"{found.per_group}"


@pytest.mark.parametrize("metric", [ish.weight_spectral_norm, ish.stable_rank])
def test_layer_rescaling_is_not_seen(metric: Any) -> None:
    model = oracle()
    before, after = (metric(o).value for o in (model, moved(model, np.full(6, 2.0**13))))
    assert abs(after / before - 1) <= 1e-13, f"{metric.__name__} moved from {before} to {after}"


@pytest.mark.parametrize("metric", [ish.weight_spectral_norm, ish.weight_frobenius_norm])
def test_norms_grow_without_bound_under_unit_rescaling(metric: Any) -> None:
    model = oracle()
    values = [metric(moved(model, [a, 1 / a, 1, 1, 1, 1])).value for a in (1.0, 2.0**10, 2.0**20)]
    assert values[1] > 100 * values[0], f"{values}"
    assert values[2] > 100 * values[1], f"{values}"


def test_stable_ranks_fall_to_one_under_unit_rescaling() -> None:
    model = oracle()
    ranks = [g.value for g in ish.stable_rank(moved(model, [2.0**20, 2.0**-20, 1, 1, 1, 1])).per_group.values()]
    assert max(ranks) <= 1 + 1e-9, f"stable ranks {ranks}"
