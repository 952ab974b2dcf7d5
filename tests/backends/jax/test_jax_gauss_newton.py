"""Products with the Gauss-Newton matrix, against the dense one that JAX builds without the library."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.protocol import GaussNewtonOracle, supports
from zoo.jax_networks import EXAMPLES, LOSSES, Network, dense_jacobian, random_data, random_parameters, squared_error
from zoo.vectors import assert_close, direction, flat, vector_of

NAMES = [*LOSSES, "a callable"]


def problem(loss: str) -> tuple[Any, Any, Any]:
    """The loss as it is passed, the independent one, and data."""
    passed, independent = (squared_error, squared_error) if loss == "a callable" else (loss, LOSSES[loss])
    return passed, independent, random_data("mse" if independent is squared_error else loss)


@cache
def oracle(loss: str) -> Any:
    """In batches of 8 and 3 examples."""
    passed, _, data = problem(loss)
    return ish.oracle(Network().apply, data, loss=passed, parameters=random_parameters(), batch_size=8)


@cache
def gauss_newton(loss: str, seed: int = 3) -> Any:
    """The dense matrix, with the Hessian (n, M, M) of every example's loss in its own outputs."""
    _, independent, (x, y) = problem(loss)
    parameters = random_parameters(seed)
    by_example = jax.vmap(jax.hessian(lambda z, t: independent(z[None], t[None])[0]))
    curvature = np.asarray(by_example(Network().apply(parameters, x), jnp.asarray(y)))
    jacobian = dense_jacobian(Network().apply, parameters, x)
    return np.einsum("nkp,nkl,nlq->pq", jacobian, curvature, jacobian) / EXAMPLES


def product(able: Any, vector: Any) -> Any:
    return flat(able.gauss_newton_vector_product(able.parameters, vector))


def test_the_oracle_has_the_capability() -> None:
    assert supports(oracle("mse"), GaussNewtonOracle), "a method is missing"


@pytest.mark.parametrize(
    "loss",
    [pytest.param(name, marks=pytest.mark.slow) if name == "normalized_cross_entropy" else name for name in NAMES],
)
def test_the_product_is_that_of_the_dense_matrix(loss: str) -> None:
    u = direction(oracle(loss))
    assert_close(product(oracle(loss), u), gauss_newton(loss) @ flat(u), "the product")


def test_the_matrix_of_normalized_cross_entropy_is_indefinite() -> None:
    eigenvalues, eigenvectors = np.linalg.eigh(gauss_newton("normalized_cross_entropy"))
    able = oracle("normalized_cross_entropy")
    assert eigenvalues[0] < -1e-3 * eigenvalues[-1], f"the least eigenvalue is {eigenvalues[0]}"
    curvature = eigenvectors[:, 0] @ product(able, vector_of(able, eigenvectors[:, 0]))
    assert curvature == pytest.approx(eigenvalues[0], rel=1e-9), f"{curvature} along that of {eigenvalues[0]}"


def test_ignored_positions_have_no_part_in_the_product() -> None:
    """Two positions per example, one of them ignored: the mean is over all others."""
    x, y = random_data(examples=12)
    y = np.where(np.arange(12) == 5, -100, y)

    def by_position(tree: Any, inputs: Any) -> Any:
        return Network().apply(tree, inputs.reshape(-1, 4)).reshape(-1, 2, 3)

    parameters = random_parameters()
    pairs = ish.oracle(by_position, (x.reshape(6, 2, 4), y.reshape(6, 2)), parameters=parameters, batch_size=3)
    single = ish.oracle(Network().apply, (x[y >= 0], y[y >= 0]), parameters=parameters)
    assert_close(product(pairs, direction(pairs)), product(single, direction(single)), "the product")


def test_at_another_point_in_other_coordinates_it_is_s_g_s() -> None:
    able = oracle("cross_entropy")
    s = np.random.default_rng(2).uniform(0.1, 10, flat(able.parameters).size)
    scaled = ish.Scaled(ish.Moved(able, able.from_tree(random_parameters(seed=9))), vector_of(able, s))
    u = direction(able)
    expected = s * (gauss_newton("cross_entropy", seed=9) @ (s * flat(u)))
    assert_close(product(scaled, u), expected, "the product")
