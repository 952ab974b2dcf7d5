"""JAX against the reference backend and against PyTorch: the same weights give the same numbers, sampled ones too."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness_jax import backend
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from jax_networks import Network, convolutional_network, ordered, random_data, random_parameters

TOLERANCE = 1e-9


def assert_equal_reports(ours: ish.CurvatureOracle, theirs: ish.CurvatureOracle, **options: Any) -> None:
    """Every metric, its error and its method."""
    values, expected = (ish.measure(oracle, list(ish.METRICS), seed=5, **options) for oracle in (ours, theirs))
    for name in expected:
        a, b = values[name], expected[name]
        assert a.value == pytest.approx(b.value, rel=TOLERANCE), f"{name}: {a.value!r} in JAX, {b.value!r} elsewhere"
        assert a.method == b.method, f"{name}: {a.method!r} in JAX, {b.method!r} elsewhere"
        if b.standard_error is not None:
            assert a.standard_error == pytest.approx(b.standard_error, rel=1e-6), f"standard error of {name}"


@cache
def pair(loss: str) -> tuple[ish.CurvatureOracle, ish.CurvatureOracle]:
    parameters, data = random_parameters(), random_data(loss)
    weights = [np.asarray(layer["kernel"]).T for layer in parameters.values()]
    network = ReluNetwork(weights, [np.asarray(layer["bias"]) for layer in parameters.values()])
    ours = backend.oracle(Network().apply, data, loss=loss, parameters=parameters)
    return ours, NetworkOracle(network, *data, loss)


@pytest.mark.parametrize("loss", ["cross_entropy", "normalized_cross_entropy", "mse"])
def test_all_metrics_equal_those_of_the_reference_backend(loss: str) -> None:
    assert_equal_reports(*pair(loss))


def test_a_frobenius_norm_from_few_probes_is_equal_probe_by_probe() -> None:
    values = [ish.hessian_frobenius_norm(oracle, probes=4, seed=1) for oracle in pair("cross_entropy")]
    assert values[0].value == pytest.approx(values[1].value, rel=TOLERANCE), values
    assert values[0].standard_error == pytest.approx(values[1].standard_error, rel=TOLERANCE), values


def test_a_probed_diagonal_is_equal_entry_by_entry() -> None:
    """Without the Gauss-Newton diagonal both have to sample."""
    ours, theirs = (Probed(oracle) for oracle in pair("cross_entropy"))
    found, expected = (ish.hessian_diagonal(oracle, probes=8, seed=2) for oracle in (ours, theirs))
    names = {f"dense_{i}.{ours}": f"layers.{i}.{theirs}" for i in range(3) for ours, theirs in KINDS}
    for name, other in names.items():
        assert found[name].method == "probes", f"{name} was obtained by {found[name].method}"
        error = np.abs(found[name].values.T - expected[other].values).max() / np.abs(expected[other].values).max()
        assert error <= TOLERANCE, f"{name}: relative error {error:.1e}"


KINDS = (("kernel", "weight"), ("bias", "bias"))


class Probed:
    """An oracle that can do nothing but the least."""

    def __init__(self, oracle: ish.CurvatureOracle) -> None:
        for name in (
            "xp",
            "groups",
            "parameters",
            "loss",
            "gradient",
            "hessian_vector_product",
            "from_numpy",
            "to_numpy",
        ):
            setattr(self, name, getattr(oracle, name))


class TorchNetwork(nn.Module):
    """The convolutional network, in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu(self.norm(self.first(x)))
        x = nn.functional.max_pool2d(nn.functional.relu(self.grouped(x)), 2, stride=1)
        return self.head(x.mean(dim=(2, 3)))


def test_a_convolutional_network_with_batch_norm_measures_as_in_torch() -> None:
    torch.manual_seed(0)
    model = TorchNetwork().double().eval()
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 2)
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
    x, y = torch.randn(9, 2, 8, 8, dtype=torch.float64), torch.randint(0, 3, (9,))
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    parameters = ordered(
        ("first", ordered(("kernel", kernel(state["first.weight"])), ("bias", jnp.asarray(state["first.bias"])))),
        ("norm", ordered(("scale", jnp.asarray(state["norm.weight"])), ("bias", jnp.asarray(state["norm.bias"])))),
        ("grouped", ordered(("kernel", kernel(state["grouped.weight"])))),
        ("head", ordered(("kernel", jnp.asarray(state["head.weight"].T)), ("bias", jnp.asarray(state["head.bias"])))),
    )
    statistics = {"mean": state["norm.running_mean"], "variance": state["norm.running_var"]}
    grouped = ish.ParameterGroup("grouped.kernel", (3, 3, 2, 6), "convolution", (3,), (2,), channel_groups=2)

    def apply(tree: Any, inputs: Any) -> Any:
        return convolutional_network(tree, statistics, inputs)

    data = (np.moveaxis(x.numpy(), 1, -1), y.numpy())
    ours = backend.oracle(apply, data, loss="cross_entropy", parameters=parameters, groups=[grouped])
    assert_equal_reports(ours, ish.oracle(model, (x, y)))


def test_a_partial_function_is_accepted() -> None:
    assert backend.accepts(partial(convolutional_network, {}))


def kernel(weight: Any) -> Any:
    """(outputs, inputs, height, width) in torch, (height, width, inputs, outputs) in JAX."""
    return jnp.asarray(weight.transpose(2, 3, 1, 0))
