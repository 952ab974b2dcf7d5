"""Each metric stays under what it declares to survive, and moves under what it does not declare."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_metrics import relative_change
from invariant_sharpness.symmetries import chain_rescalings
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

SIZES = (4, 6, 5, 3)
TOLERANCE = 1e-9
LOOSER = {"kl_regret": 1e-7, "posterior_sharpness": 1e-6, "contrastive_ratio": 1e-5, "hessian_spectral_norm": 1e-5}
"""Iterations that stop at a tolerance of their own, and inverses of ill-conditioned matrices."""
MOVED = 1e-2


@cache
def network() -> NetworkOracle:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(n, m)) / m**0.5 for m, n in pairwise(SIZES)]
    model = ReluNetwork(weights, [rng.normal(size=n) / 2 for n in SIZES[1:]])
    return NetworkOracle(model, rng.normal(size=(40, 4)), rng.integers(3, size=40))


def rescaled(factors: list[Any]) -> ish.Moved:
    """Hidden units of each layer, times these factors."""
    oracle, parameters = network(), network().parameters
    for rescaling, own in zip(chain_rescalings(oracle.groups), factors, strict=True):
        parameters = rescaling.apply(oracle, parameters, own)
    return ish.Moved(oracle, parameters)


@cache
def orbit(invariance: str) -> ish.Moved:
    if invariance == "layer":
        return rescaled([np.full(6, 2.0**3), np.full(5, 2.0**-2)])
    rng = np.random.default_rng(1)
    return rescaled([np.ldexp(1.0, rng.integers(-4, 5, size=width)) for width in SIZES[1:-1]])


@cache
def value(name: str, invariance: str | None) -> float:
    oracle = network() if invariance is None else orbit(invariance)
    return ish.METRICS[name].function(oracle).value


@pytest.mark.parametrize("invariance", ["layer", "row_column"])
def test_function_is_the_same_bit_by_bit(invariance: str) -> None:
    there = orbit(invariance)
    assert there.loss(there.parameters) == network().loss(network().parameters)


DECLARED = [(n, i) for n, m in ish.METRICS.items() for i in ("layer", "row_column") if i in m.invariances]
UNDECLARED = [(n, i) for n, m in ish.METRICS.items() for i in ("layer", "row_column") if i not in m.invariances]


@pytest.mark.parametrize(("name", "invariance"), DECLARED)
def test_metric_survives_what_it_declares(name: str, invariance: str) -> None:
    before, after = value(name, None), value(name, invariance)
    change = relative_change(before, after)
    assert change <= LOOSER.get(name, TOLERANCE), f"{name} moved from {before!r} to {after!r} ({change:.1e})"


@pytest.mark.parametrize(("name", "invariance"), UNDECLARED)
def test_metric_moves_under_what_it_does_not_declare(name: str, invariance: str) -> None:
    before, after = value(name, None), value(name, invariance)
    change = relative_change(before, after)
    assert change > MOVED, (
        f"{name} stayed at {before!r} and {after!r} ({change:.1e}): declare it, if that is no accident"
    )
