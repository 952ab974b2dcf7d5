"""Estimators on PyTorch's vectors: the numbers of the reference in double precision, and sensible ones in single."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.estimators.hutchinson import hutch_plus_plus_trace
from invariant_sharpness.estimators.lanczos import eigenpairs
from invariant_sharpness.estimators.leave_one_out_trace import xtrace
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from zoo.estimator_numbers import NUMBERS

SIZES = (6, 7, 4)


def pair(dtype: torch.dtype) -> tuple[ish.CurvatureOracle, ish.CurvatureOracle]:
    """One network in NumPy, and in torch with this precision."""
    network = ReluNetwork.initialize(SIZES, seed=7)
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(23, SIZES[0])), rng.integers(0, SIZES[-1], 23)
    layers = [nn.Linear(m, n, dtype=dtype) for n, m in (w.shape for w in network.weights)]
    with torch.no_grad():
        for layer, weight in zip(layers, network.weights, strict=True):
            layer.weight.copy_(torch.as_tensor(np.array(weight)))
            layer.bias.zero_()
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1])
    return NetworkOracle(network, x, y), ish.oracle(model, (torch.as_tensor(x, dtype=dtype), torch.as_tensor(y)))


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)], ids=str)
def test_same_seed_gives_the_numbers_of_the_reference(name: str, dtype: torch.dtype, tolerance: float) -> None:
    """In single precision the errors of products grow where the sketch is badly conditioned."""
    reference, other = (NUMBERS[name](oracle) for oracle in pair(dtype))
    change = np.abs(other - reference).max() / np.abs(reference).max()
    assert change <= tolerance, f"{name}: NumPy {reference}, torch {other} ({change:.1e})"


@pytest.mark.parametrize("estimator", [hutch_plus_plus_trace, xtrace], ids=lambda e: e.__name__)
def test_low_rank_is_exact_in_single_precision(estimator: Any) -> None:
    """A linear model with the squared error on four examples: H = 2 X^T X / 4 has rank four."""
    x = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    oracle = ish.oracle(nn.Linear(30, 1, bias=False), (x, torch.zeros(4, 1)), loss="mse")
    expected = 2 * float((x.double() ** 2).sum()) / 4
    estimate = estimator(oracle, num_matvecs=18)
    assert estimate.value == pytest.approx(expected, rel=1e-5), f"{estimate} instead of {expected}"
    assert (estimate.standard_error or 0) <= 1e-4 * expected, str(estimate)


def test_eigenvalues_converge_in_single_precision() -> None:
    x = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    oracle = ish.oracle(nn.Linear(30, 1, bias=False), (x, torch.zeros(4, 1)), loss="mse")
    expected = np.linalg.eigvalsh((x.double().T @ x.double() / 2).numpy())[::-1][:6]
    found = eigenpairs(oracle, largest=6, smallest=0, tolerance=1e-5)
    error = np.abs(np.array([pair.value for pair in found.largest]) - expected).max() / expected[0]
    assert found.converged, str(found)
    assert error <= 1e-5, f"{found} instead of {expected}"
