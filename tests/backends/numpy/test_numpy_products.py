"""Products with the Gauss-Newton matrix and the outputs' Jacobian on the reference backend, against complex steps."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from invariant_sharpness import prng
from zoo import complex_step
from zoo.numpy_problem import EXAMPLES, SIZES, problem
from zoo.vectors import assert_close, flat

SETTINGS = [(loss, biases) for loss in ("cross_entropy", "normalized_cross_entropy", "mse") for biases in (False, True)]
every_setting = pytest.mark.parametrize(("loss", "biases"), SETTINGS)


@cache
def jacobian(loss: str, biases: bool) -> Any:
    """Derivatives (N, K, P) of the outputs."""
    p = problem(loss, biases)

    def rows(theta: Any) -> Any:
        return complex_step.outputs(SIZES, theta, p.x, biases=biases).reshape(len(theta), -1)

    return complex_step.derivatives(rows, p.theta[None])[0].T.reshape(EXAMPLES, SIZES[-1], -1)


def output_hessians(loss: str, biases: bool) -> Any:
    """Of each example's loss in its outputs, (N, K, K)."""
    p = problem(loss, biases)
    z = complex_step.outputs(SIZES, p.theta[None], p.x, biases=biases)[0]

    def hessian(n: int) -> Any:
        return complex_step.hessian(lambda row: p.example_loss(row[:, None], p.y[n : n + 1])[:, 0], z[n])

    return np.stack([hessian(n) for n in range(EXAMPLES)])


@every_setting
def test_curvature_product_is_that_of_the_dense_matrix(loss: str, biases: bool) -> None:
    oracle, J = problem(loss, biases).oracle, jacobian(loss, biases)
    v = prng.signs(oracle, 0, 0)
    expected = np.einsum("nka,nkl,nl->a", J, output_hessians(loss, biases), J @ flat(v)) / EXAMPLES
    assert_close(flat(oracle.gauss_newton_vector_product(oracle.parameters, v)), expected, "G v")


@every_setting
def test_jacobian_product_is_that_of_the_dense_jacobian(loss: str, biases: bool) -> None:
    oracle, J = problem(loss, biases).oracle, jacobian(loss, biases)
    v = prng.signs(oracle, 0, 1)
    assert_close(oracle.jacobian_vector_product(oracle.parameters, v, 9), (J @ flat(v))[:9], "J v on nine examples")


@every_setting
def test_transposed_product_is_that_of_the_dense_jacobian(loss: str, biases: bool) -> None:
    oracle, J = problem(loss, biases).oracle, jacobian(loss, biases)
    c = prng.cotangents(0, (9, SIZES[-1]))
    expected = np.einsum("nka,nk->a", J[:9], c)
    assert_close(flat(oracle.vector_jacobian_product(oracle.parameters, c)), expected, "J^T c on nine examples")
