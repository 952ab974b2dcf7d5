"""The full Fisher-Rao norm of a homogeneous network, from its outputs alone (Liang et al. 2019)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax

import invariant_sharpness as ish
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

X, LABELS = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
NUMBERS = np.random.default_rng(1).normal(size=(30, 3))


def network(layers: int) -> ReluNetwork:
    """Without biases, so that the outputs grow with every weight."""
    rng, sizes = np.random.default_rng(layers), (4, *(16,) * (layers - 1), 3)
    return ReluNetwork([rng.normal(size=(n, m)) for m, n in pairwise(sizes)])


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_it_is_the_squared_slope_along_the_outputs_times_the_squared_number_of_layers(loss: str, layers: int) -> None:
    """``(L + 1)^2 E[<dl/dz, z>^2]`` with L hidden layers, as ``theta . dz/dtheta = (L + 1) z``."""
    model = network(layers)
    z = model(X)
    if loss == "mse":
        oracle, slopes = NetworkOracle(model, X, NUMBERS, loss), 2 / 3 * (z - NUMBERS)
    else:
        oracle, slopes = NetworkOracle(model, X, LABELS, loss), softmax(z, axis=1) - np.eye(3)[LABELS]
    expected = layers**2 * np.mean((slopes * z).sum(axis=1) ** 2)
    found = ish.fisher_rao_norm(oracle, form="full").value
    assert found == pytest.approx(float(expected), rel=1e-12), f"{found}, but from the outputs {expected}"


def test_it_vanishes_under_the_normalized_loss() -> None:
    """Which does not see the scale of the outputs, so that it has no slope along them."""
    full, diagonal = (
        ish.fisher_rao_norm(NetworkOracle(network(2), X, LABELS, "normalized_cross_entropy"), form=form).value
        for form in ("full", "diagonal")
    )
    assert full <= 1e-25 * diagonal, f"the full norm is {full}, the diagonal one {diagonal}"
