"""The same network, data and seed give the same number in PyTorch and in the NumPy reference."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.coordinates import balanced
from invariant_sharpness.estimators.probed_diagonal import probe_means
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

SIZES = (6, 9, 7, 4)
LOSSES = ("cross_entropy", "normalized_cross_entropy")


def pair(loss: str) -> tuple[ish.CurvatureOracle, ish.CurvatureOracle]:
    """One network in both backends."""
    rng = np.random.default_rng(7)
    network = ReluNetwork.initialize(SIZES, seed=7)
    x, y = rng.normal(size=(23, SIZES[0])), rng.integers(0, SIZES[-1], 23)
    layers = [nn.Linear(m, n, dtype=torch.float64) for n, m in (w.shape for w in network.weights)]
    assert network.biases is not None
    with torch.no_grad():
        for layer, weight, bias in zip(layers, network.weights, network.biases, strict=True):
            layer.weight.copy_(torch.as_tensor(np.array(weight)))
            layer.bias.copy_(torch.as_tensor(np.array(bias)))
    model = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))[:-1]
    return NetworkOracle(network, x, y, loss=loss, batch_size=5), ish.oracle(model, (x, y), loss=loss)


def test_probes_are_the_same_bits() -> None:
    reference, other = pair("cross_entropy")
    for index in range(3):
        expected = reference.to_numpy(prng.signs(reference, 4, index))
        found = other.to_numpy(prng.signs(other, 4, index))
        for (name, a), (_, b) in zip(expected.items(), found.items(), strict=True):
            assert np.array_equal(a, b), f"probe {index} differs in {name}"


def test_sampled_diagonal_has_the_same_draws() -> None:
    reference, other = pair("cross_entropy")
    draws = []
    for oracle in (reference, other):
        names = frozenset(group.name for group in oracle.groups if group.is_weight)
        means = probe_means(oracle, names, balanced(oracle), [range(4)], seed=2)
        draws.append([means[group.name] for group in oracle.groups if group.is_weight])
    for a, b in zip(*draws, strict=True):
        assert np.allclose(a, b, rtol=1e-9, atol=1e-12 * np.abs(a).max())
