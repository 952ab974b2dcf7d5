"""JAX against the reference backend: the same weights give the same numbers, sampled ones too."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness_jax import backend
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from zoo.jax_networks import Network, assert_equal_reports, random_data, random_parameters

TOLERANCE = 1e-9


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
