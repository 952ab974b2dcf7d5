"""One network, the same data and seed: every metric has the value of the NumPy reference in every backend."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness_numpy import ReluNetwork
from zoo.invariant_metrics import USUAL, relative_change

SIZES = (6, 9, 7, 4)
EXAMPLES = 23
FAST = ("torch", "cross_entropy")
"""Where all metrics are compared; in JAX, which compiles for each, and under other losses, those that need all capabilities are, and all in the slow tests."""
LOSSES = ("cross_entropy", "normalized_cross_entropy", "mse")
TOLERANCE = 1e-9
ILL_CONDITIONED = {"kl_regret": 1e-7, "congruent_contrastive_ratio": 1e-7}
"""Inverses of the Fisher matrix lose digits to its condition, which is the square of that of the Jacobian."""


@cache
def network() -> ReluNetwork:
    random = np.random.default_rng(1)
    weights = [random.normal(size=(outputs, inputs)) for inputs, outputs in pairwise(SIZES)]
    return ReluNetwork(tuple(weights), tuple(random.normal(size=outputs) for outputs in SIZES[1:]))


@cache
def data(loss: str) -> tuple[Any, Any]:
    random = np.random.default_rng(8)
    x, labels = random.normal(size=(EXAMPLES, SIZES[0])), random.integers(0, SIZES[-1], EXAMPLES)
    return x, random.normal(size=(EXAMPLES, SIZES[-1])) if loss == "mse" else labels


def numpy_oracle(loss: str) -> ish.CurvatureOracle:
    return ish.oracle(network(), data(loss), loss)


def torch_oracle(loss: str) -> ish.CurvatureOracle:
    import torch
    from torch import nn

    layers = [nn.Linear(inputs, outputs, dtype=torch.float64) for inputs, outputs in pairwise(SIZES)]
    with torch.no_grad():
        for layer, weight, bias in zip(layers, network().weights, biases(), strict=True):
            layer.weight.copy_(torch.tensor(weight.tolist(), dtype=torch.float64))
            layer.bias.copy_(torch.tensor(bias.tolist(), dtype=torch.float64))
    model = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))[:-1]
    return ish.oracle(model, data(loss), loss, batch_size=5)


def jax_oracle(loss: str) -> ish.CurvatureOracle:
    import jax

    jax.config.update("jax_enable_x64", True)

    def apply(parameters: Any, x: Any) -> Any:
        *hidden, last = parameters
        for layer in hidden:
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
        return x @ last["kernel"] + last["bias"]

    parameters = [{"kernel": W.T, "bias": b} for W, b in zip(network().weights, biases(), strict=True)]
    return ish.oracle(apply, data(loss), loss, parameters=parameters, batch_size=5)


def biases() -> tuple[Any, ...]:
    assert network().biases is not None
    return network().biases


ORACLES = {"numpy": numpy_oracle, "torch": torch_oracle, "jax": jax_oracle}
PATH_DEPENDENT = ("posterior_sharpness", "normalized_cross_entropy")
"""A fit along kinks, which under this loss run close to one another: rounding decides at which of many minima it ends."""


def marks(backend: str, *, deep: bool) -> list[pytest.MarkDecorator]:
    missing = pytest.mark.skipif(find_spec(backend) is None, reason=f"{backend} is not installed")
    return [missing, pytest.mark.slow] if deep else [missing]


COMPARED = [
    pytest.param(name, backend, loss, marks=marks(backend, deep=name not in USUAL and (backend, loss) != FAST))
    for backend in ("torch", "jax")
    for loss in LOSSES
    for name in ish.METRICS
    if (name, loss) != PATH_DEPENDENT
]


@cache
def report(backend: str, loss: str, *, usual: bool) -> ish.Report:
    return ish.measure(ORACLES[backend](loss), [name for name in ish.METRICS if (name in USUAL) == usual], seed=5)


@pytest.mark.parametrize(("name", "backend", "loss"), COMPARED)
def test_value_is_that_of_the_reference(name: str, backend: str, loss: str) -> None:
    reference, other = (report(one, loss, usual=name in USUAL)[name] for one in ("numpy", backend))
    assert reference.value != 0, f"{name} of {loss} is zero, so that nothing is compared"
    change = relative_change(reference.value, other.value)
    tolerance = ILL_CONDITIONED.get(name, TOLERANCE)
    assert change <= tolerance, f"{name} of {loss}: NumPy {reference.value!r}, {backend} {other.value!r} ({change:.1e})"
    assert other.method == reference.method, f"NumPy by {reference.method}, {backend} by {other.method}"
    before, after = reference.standard_error or 0.0, other.standard_error or 0.0
    scatter = relative_change(before, after)
    assert scatter <= tolerance, f"standard error of {name}: NumPy {before!r}, {backend} {after!r} ({scatter:.1e})"


@pytest.mark.parametrize("backend", [pytest.param(name, marks=marks(name, deep=True)) for name in ("torch", "jax")])
def test_value_of_a_fit_along_kinks_is_that_of_the_reference_up_to_its_error(backend: str) -> None:
    name, loss = PATH_DEPENDENT
    reference, other = (report(one, loss, usual=False)[name] for one in ("numpy", backend))
    off, error = abs(reference.value - other.value), reference.standard_error or 0.0
    assert off <= 3 * error, f"{name} of {loss}: NumPy {reference}, {backend} {other}"
