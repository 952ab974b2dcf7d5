"""The JAX engine keeps the contract of engines, and sees a model that is trained between two passes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

import invariant_sharpness as ish
from invariant_sharpness.testing import check_engine
from invariant_sharpness_jax import Application
from zoo.jax_networks import Network, random_data, random_parameters


def test_the_contract_of_engines_is_kept() -> None:
    oracle = ish.oracle(Network().apply, random_data(), parameters=random_parameters())
    results = check_engine(oracle.engine, random_data())
    assert [result.status for result in results] == ["passed"] * 4, "\n".join(map(str, results))


def test_constants_are_those_of_the_moment_and_nothing_is_traced_again() -> None:
    network, (x, y) = Network(), random_data()
    moving = {"mean": jnp.zeros(x.shape[1])}

    def apply(parameters: Any, inputs: Any, statistics: Any) -> Any:
        return network.apply(parameters, inputs - statistics["mean"])

    model = Application(apply, constants=lambda: (moving,))
    oracle = ish.oracle(model, (x, y), parameters=random_parameters())
    oracle.gradient(oracle.parameters)
    before = len(network.traces)
    moving["mean"] = jnp.arange(1.0, 1.0 + x.shape[1])
    found = oracle.to_numpy(oracle.gradient(oracle.parameters))
    assert len(network.traces) == before, f"traced {len(network.traces) - before} times more"
    shifted = ish.oracle(Network().apply, (x - np.arange(1.0, 1.0 + x.shape[1]), y), parameters=random_parameters())
    for name, expected in shifted.to_numpy(shifted.gradient(shifted.parameters)).items():
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-13, err_msg=name)
