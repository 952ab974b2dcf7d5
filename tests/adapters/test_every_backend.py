"""One network, the same data: every backend computes what the NumPy reference does.

A metric is a function of the oracle, so that equal capabilities make all metrics equal. A few metrics from end to end
show that the draws are equal too, and the way from one to the other; the slow tests compare all of them.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.adapters import Cotangents
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness_numpy import ReluNetwork
from zoo.invariant_metrics import relative_change

SIZES = (6, 9, 7, 4)
EXAMPLES = 23
END_TO_END = ("normalized_sharpness", "hessian_spectral_norm", "average_adaptive_sharpness")
"""Metrics made of exact diagonals, of products, and of losses at random points."""
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


def in_reference_layout(oracle: Any, vector: ish.ParameterVector) -> Any:
    """Put all weights before all biases, and the outputs of a weight on its rows."""
    arrays = oracle.to_numpy(vector)
    ordered = sorted(oracle.groups, key=lambda group: not group.is_weight)
    return np.concatenate([np.ravel(arrays[g.name].T if g.output_axes == (1,) else arrays[g.name]) for g in ordered])


def vector(oracle: Any, seed: int) -> ish.ParameterVector:
    """The same random vector on every backend."""
    random, arrays = np.random.default_rng(seed), {}
    for group in sorted(oracle.groups, key=lambda group: not group.is_weight):
        turned = group.output_axes == (1,)
        array = random.normal(size=group.shape[::-1] if turned else group.shape)
        arrays[group.name] = array.T if turned else array
    return oracle.from_numpy({group.name: arrays[group.name] for group in oracle.groups})


def weights(oracle: Any) -> frozenset[str]:
    return frozenset(group.name for group in oracle.groups if group.is_weight)


CAPABILITIES: dict[str, Any] = {
    "loss": lambda o, p, _: o.loss(p),
    "gradient": lambda o, p, _: o.gradient(p),
    "product": lambda o, p, v: o.hessian_vector_product(p, v),
    "products in a block": lambda o, p, v: o.hessian_vector_products(p, [v, vector(o, 3)])[1],
    "Gauss-Newton product": lambda o, p, v: o.gauss_newton_vector_product(p, v),
    "Gauss-Newton diagonal": lambda o, p, _: o.gauss_newton_diagonal(p, frozenset(p.arrays)),
    "Gauss-Newton diagonal of the weights": lambda o, p, _: o.gauss_newton_diagonal(p, weights(o)),
    "sampled Gauss-Newton diagonal": lambda o, p, _: o.sampled_gauss_newton_diagonal(p, weights(o), range(3), 7),
    "second derivative of the outputs": lambda o, p, v: o.output_curvature(p, v, 1)[1],
    "outputs": lambda o, p, _: o.outputs(p, 7),
    "Jacobian product": lambda o, p, v: o.jacobian_vector_product(p, v, 7),
    "transposed Jacobian product": lambda o, p, _: o.vector_jacobian_product(p, o.outputs(p, 7)),
    "gradient second moment": lambda o, p, _: o.gradient_second_moment(p),
    "directional second moment": lambda o, p, v: o.directional_second_moment(p, v),
    "gradient of a part of the data": lambda o, p, _: o.subset([1, 8, 20]).gradient(p),
}


def numbers(oracle: Any, capability: str) -> Any:
    """Away from the parameters of the model, so that the point is an argument."""
    found = CAPABILITIES[capability](oracle, vector(oracle, 1), vector(oracle, 2))
    return in_reference_layout(oracle, found) if isinstance(found, ish.ParameterVector) else np.asarray(found)


@cache
def oracle(backend: str, loss: str) -> Any:
    return ORACLES[backend](loss)


@pytest.mark.parametrize("backend", [pytest.param(name, marks=marks(name, deep=False)) for name in ORACLES])
@pytest.mark.parametrize("cotangents", [Cotangents("hessian"), Cotangents("sampled")], ids=["no kind", "no draws"])  # type: ignore[arg-type]
def test_unknown_cotangents_are_refused(backend: str, cotangents: Cotangents) -> None:
    """Nothing else is squared in their place."""
    engine, (x, y) = oracle(backend, "cross_entropy").engine, data("cross_entropy")
    names = frozenset(group.name for group in engine.groups)
    with (
        engine.at(engine.native(engine.parameters())) as point,
        pytest.raises(ArgumentError, match="needs a branch of its own"),
    ):
        point.squares(names, cotangents, engine.batch((x, y)))


WITHOUT_A_ROOT = ("normalized_cross_entropy", "sampled Gauss-Newton diagonal")
"""The output Hessian of this loss has no square root, so that its outputs cannot be sampled."""
TO_BE_COMPILED = [("jax", loss) for loss in LOSSES[1:]]
"""JAX compiles every capability for each loss; under these its dense derivatives are in the tests of the backend."""


@pytest.mark.parametrize(
    ("backend", "loss", "capability"),
    [
        pytest.param(backend, loss, capability, marks=marks(backend, deep=(backend, loss) in TO_BE_COMPILED))
        for backend in ("torch", "jax")
        for loss in LOSSES
        for capability in CAPABILITIES
        if (loss, capability) != WITHOUT_A_ROOT
    ],
)
def test_every_capability_is_that_of_the_reference(backend: str, loss: str, capability: str) -> None:
    expected, found = numbers(oracle("numpy", loss), capability), numbers(oracle(backend, loss), capability)
    error = np.abs(found - expected).max()
    assert error <= 1e-11 * max(np.abs(expected).max(), 1.0), f"{capability} of {loss} is off by {error:.1e}"


COMPARED = [
    pytest.param(name, backend, loss, marks=marks(backend, deep=name not in END_TO_END or loss != "cross_entropy"))
    for backend in ("torch", "jax")
    for loss in LOSSES
    for name in ish.METRICS
    if name in END_TO_END or loss == "cross_entropy"
]
"""A metric is a function of the oracle, whose capabilities are compared with each loss."""


@cache
def report(backend: str, loss: str, *, end_to_end: bool) -> ish.Report:
    names = [name for name in ish.METRICS if (name in END_TO_END) == end_to_end]
    return ish.measure(ORACLES[backend](loss), names, seed=5)


@pytest.mark.parametrize(("name", "backend", "loss"), COMPARED)
def test_value_is_that_of_the_reference(name: str, backend: str, loss: str) -> None:
    reference, other = (report(one, loss, end_to_end=name in END_TO_END)[name] for one in ("numpy", backend))
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
    reference, other = (ish.METRICS[name](ORACLES[one](loss), seed=5) for one in ("numpy", backend))
    off, error = abs(reference.value - other.value), reference.standard_error or 0.0
    assert off <= 3 * error, f"{name} of {loss}: NumPy {reference}, {backend} {other}"


@pytest.mark.parametrize("backend", [pytest.param(name, marks=marks(name, deep=False)) for name in ("torch", "jax")])
def test_changes_of_layers_are_those_of_the_reference(backend: str) -> None:
    """Rounding row by row, whatever the layout: the rows of the table, and the cross terms."""
    tables = []
    for one in ("numpy", backend):
        own = oracle(one, "cross_entropy")
        found = ish.change_sensitivity(own, ish.changes.rounding(own, bits=3))
        rows = [list(layer.to_dict().values()) for layer in (*found.values(), found.total)]
        tables.append(np.concatenate([np.array(rows, dtype=float).ravel()[:-1], found.forms.ravel()]))
    error = np.abs(tables[1] - tables[0]).max()
    assert error <= 1e-11 * np.abs(tables[0]).max(), f"off by {error:.1e}: {tables}"


@pytest.mark.parametrize("backend", [pytest.param(name, marks=marks(name, deep=False)) for name in ("torch", "jax")])
def test_mean_over_minibatches_is_that_of_the_reference(backend: str) -> None:
    metric = ish.over_minibatches(ish.one_step_sharpness, size=7)
    reference, other = (metric(oracle(one, "cross_entropy"), seed=3) for one in ("numpy", backend))
    assert relative_change(reference.value, other.value) <= TOLERANCE, f"{reference} and {other}"
