"""What Sagun et al. (2017) see in the spectra of small networks, on scikit-learn's digits."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from invariant_sharpness_numpy.training import train_network
from zoo.vectors import hessian_by_columns

HIDDEN = (10, 8)
RUNS = [(2, 0), (6, 0), *(pytest.param(classes, 1, marks=pytest.mark.slow) for classes in (2, 6))]
runs = pytest.mark.parametrize(("classes", "seed"), RUNS)


@cache
def oracles(classes: int, seed: int) -> tuple[NetworkOracle, NetworkOracle]:
    """A network with two hidden layers on the first classes, before and after it was trained to fit them."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    chosen = np.flatnonzero(labels < classes)[:200]
    x, y, sizes = images[chosen] / 16, labels[chosen].astype(int), (64, *HIDDEN, classes)
    networks = ReluNetwork.initialize(sizes, seed=seed), train_network(x, y, sizes=sizes, seed=seed)
    before, after = (NetworkOracle(network, x, y) for network in networks)
    return before, after


@runs
def test_gap_comes_after_one_eigenvalue_less_than_there_are_classes(classes: int, seed: int) -> None:
    """With a softmax; of the outputs' Hessian one eigenvalue is zero. With 3 and 4 classes it is not always so."""
    _, trained = oracles(classes, seed)
    pairs = ish.eigenpairs(trained, largest=2 * classes, smallest=0)
    values = np.array([pair.value for pair in pairs.largest])
    gap = 1 + int(np.argmax(values[:-1] / values[1:]))
    assert gap == classes - 1, f"the largest gap is after {gap} eigenvalues of {values}"


@runs
def test_negative_eigenvalues_are_smaller_than_positive_ones(classes: int, seed: int) -> None:
    _, trained = oracles(classes, seed)
    pairs = ish.eigenpairs(trained)
    largest, smallest = pairs.largest[0].value, pairs.smallest[0].value
    assert smallest < 0, f"the smallest eigenvalue is {smallest}"
    assert -smallest < 0.2 * largest, f"eigenvalues from {smallest} to {largest}"


@runs
def test_training_gathers_eigenvalues_at_zero(classes: int, seed: int) -> None:
    """The share of those below a thousandth of the largest."""
    before, after = (
        share_near_zero(np.linalg.eigvalsh(hessian_by_columns(oracle))) for oracle in oracles(classes, seed)
    )
    assert 0.5 < before < after, f"{before:.1%} of the eigenvalues are near zero before the training, {after:.1%} after"


def share_near_zero(eigenvalues: Any) -> float:
    return float(np.mean(np.abs(eigenvalues) < 1e-3 * eigenvalues.max()))
