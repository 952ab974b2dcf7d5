"""What a user of JAX relies on: few compilations, equal results, no surprise from the 32-bit mode."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError
from invariant_sharpness_jax import backend
from zoo.invariant_metrics import USUAL
from zoo.jax_networks import Network, random_data, random_parameters

NETWORK = Network()
ORACLE = backend.oracle(NETWORK.apply, random_data(), loss="cross_entropy", parameters=random_parameters())


@pytest.mark.slow
def test_nothing_is_traced_again_for_other_values() -> None:
    def measure(point: ish.ParameterVector) -> None:
        moved = ish.Moved(ORACLE, point)
        ish.measure(moved, USUAL)

    measure(ORACLE.parameters)
    before = len(NETWORK.traces)
    measure(ORACLE.from_tree(random_parameters(seed=9)))
    assert len(NETWORK.traces) == before, f"traced {len(NETWORK.traces) - before} times more: {NETWORK.traces[before:]}"


def test_no_product_is_traced_again_for_other_values_or_fewer_examples() -> None:
    def multiply(point: ish.ParameterVector, examples: int) -> None:
        ORACLE.gauss_newton_vector_product(point, point)
        ORACLE.outputs(point, examples)
        ORACLE.jacobian_vector_product(point, point, examples)
        ORACLE.vector_jacobian_product(point, np.ones((examples, 3)))

    multiply(ORACLE.parameters, 11)
    before = len(NETWORK.traces)
    for examples in (1, 5):
        multiply(ORACLE.from_tree(random_parameters(seed=9)), examples)
    assert len(NETWORK.traces) == before, f"traced {len(NETWORK.traces) - before} times more: {NETWORK.traces[before:]}"


def test_equal_arguments_give_equal_results_bit_by_bit() -> None:
    p = ORACLE.parameters
    first, second = (ORACLE.to_numpy(ORACLE.hessian_vector_product(p, p)) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first), "two equal products differ"
    assert ORACLE.loss(p) == ORACLE.loss(p)


def test_other_parameters_are_measured_in_the_users_form() -> None:
    other = backend.oracle(Network().apply, random_data(), loss="cross_entropy", parameters=random_parameters(seed=9))
    assert ORACLE.loss(ORACLE.from_tree(random_parameters(seed=9))) == other.loss(other.parameters)
    with pytest.raises(ModelError, match="leaves"):
        ORACLE.from_tree({"dense_0": jnp.zeros(3)})
    with pytest.raises(ModelError, match=r"dense_0\.bias"):
        ORACLE.from_tree(random_parameters(sizes=(4, 6, 3, 3)))


def test_importing_the_backend_does_not_import_jax() -> None:
    run(
        "import sys, invariant_sharpness_jax as b; assert b.backend.accepts(lambda p, x: x); assert 'jax' not in sys.modules"
    )


def test_in_32_bit_mode_double_precision_is_an_error_and_not_rounded() -> None:
    run("""
import numpy as np, jax, jax.numpy as jnp
from invariant_sharpness_jax import backend
from invariant_sharpness.errors import DataError, ModelError
x, y = np.random.default_rng(0).normal(size=(4, 2)), np.array([0, 1, 2, 0])
def apply(p, x): return x @ p["w"]
def refused(kind, text, data=(x, y), **options):
    try:
        backend.oracle(apply, data, loss="cross_entropy", **options)
    except kind as error:
        assert text in str(error), error
    else:
        raise AssertionError(text)
single = {"w": jnp.ones((2, 3))}
refused(ModelError, "jax_enable_x64", parameters={"w": np.ones((2, 3))})
refused(ModelError, "jax_enable_x64", parameters=single, dtype="float64")
refused(DataError, "int32", parameters=single, data=(x, y + 2**32))
oracle = backend.oracle(apply, (x, y), loss="cross_entropy", parameters=single)
assert abs(oracle.loss(oracle.parameters) - np.log(3)) < 1e-6
assert oracle.gradient(oracle.parameters)["w"].dtype == jnp.float32
backend.oracle(apply, (x, y), loss="cross_entropy", parameters={"w": np.ones((2, 3))}, dtype="float32")
assert not jax.config.jax_enable_x64
""")


def run(program: str) -> None:
    result = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_a_copy_in_double_precision_is_measured() -> None:
    single = jax.tree.map(lambda a: a.astype(jnp.float32), random_parameters())
    found = ish.oracle(Network().apply, random_data(), parameters=single, dtype="float64")
    assert found.parameters["dense_0.bias"].dtype == jnp.float64
    assert single["dense_0"]["bias"].dtype == jnp.float32
