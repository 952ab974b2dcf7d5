"""JAX against the reference backend: the same weights give the same probes, entry by entry."""

from __future__ import annotations

from functools import cache

import numpy as np

import invariant_sharpness as ish
from invariant_sharpness_jax import backend
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from zoo.jax_networks import Network, random_data, random_parameters

TOLERANCE = 1e-9


@cache
def pair(loss: str) -> tuple[ish.CurvatureOracle, ish.CurvatureOracle]:
    parameters, data = random_parameters(), random_data(loss)
    weights = [np.asarray(layer["kernel"]).T for layer in parameters.values()]
    network = ReluNetwork(weights, [np.asarray(layer["bias"]) for layer in parameters.values()])
    ours = backend.oracle(Network().apply, data, loss=loss, parameters=parameters)
    return ours, NetworkOracle(network, *data, loss)


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
