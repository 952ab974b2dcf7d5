"""Every derivative of the JAX oracle against dense ones, for every loss."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness_jax import backend
from invariant_sharpness_jax.room import room_within_limit
from zoo.jax_networks import (
    LOSSES,
    Network,
    dense_hessian,
    example_gradients,
    random_data,
    random_parameters,
    squared_error,
)
from zoo.vectors import assert_close, direction, flat, vector_of

NAMES = [*LOSSES, "a callable"]


def problem(loss: str) -> tuple[Any, Any]:
    """The loss as it is passed, and the independent one."""
    return (squared_error, squared_error) if loss == "a callable" else (loss, LOSSES[loss])


@cache
def measured(loss: str) -> tuple[Any, Any, Any]:
    """The oracle (in uneven batches for one loss, as every shape is compiled), the dense Hessian and the gradients of the examples."""
    passed, independent = problem(loss)
    parameters, network = random_parameters(), Network()
    x, y = random_data("mse" if independent is squared_error else loss)
    oracle = backend.oracle(
        network.apply, (x, y), loss=passed, parameters=parameters, batch_size=8 if loss == "mse" else 11
    )
    args = (Network().apply, parameters, x, y, independent)
    return oracle, dense_hessian(*args), example_gradients(*args)


@pytest.mark.parametrize("loss", NAMES)
def test_the_gradient_is_the_mean_of_those_of_the_examples(loss: str) -> None:
    oracle, _, gradients = measured(loss)
    assert_close(flat(oracle.gradient(oracle.parameters)), gradients.mean(axis=0), "the gradient")


@pytest.mark.parametrize("loss", NAMES)
def test_the_product_is_that_of_the_dense_hessian(loss: str) -> None:
    oracle, matrix, _ = measured(loss)
    u = direction(oracle)
    product = flat(oracle.hessian_vector_product(oracle.parameters, u))
    assert_close(product, matrix @ flat(u), "the product")


@pytest.mark.parametrize("loss", NAMES)
def test_the_gauss_newton_diagonal_of_a_relu_network_is_that_of_the_hessian(loss: str) -> None:
    oracle, matrix, _ = measured(loss)
    names = frozenset(group.name for group in oracle.groups)
    diagonal = flat(oracle.gauss_newton_diagonal(oracle.parameters, names))
    assert_close(diagonal, matrix.diagonal(), "the diagonal")


@pytest.mark.parametrize("loss", NAMES)
def test_second_moments_are_those_of_the_gradients_of_the_examples(loss: str) -> None:
    oracle, _, gradients = measured(loss)
    moments = flat(oracle.gradient_second_moment(oracle.parameters))
    assert_close(moments, (gradients**2).mean(axis=0), "the second moments")
    u = direction(oracle)
    along = oracle.directional_second_moment(oracle.parameters, u)
    assert_close(along, ((gradients @ flat(u)) ** 2).mean(), "the second moment along a direction")


def test_the_diagonal_is_zero_for_the_groups_that_are_left_out() -> None:
    oracle, matrix, _ = measured("cross_entropy")
    diagonal = oracle.to_numpy(oracle.gauss_newton_diagonal(oracle.parameters, frozenset(["dense_1.kernel"])))
    whole = oracle.to_numpy(vector_of(oracle, matrix.diagonal()))
    assert_close(diagonal["dense_1.kernel"], whole["dense_1.kernel"], "the named group")
    others = [name for name, values in diagonal.items() if name != "dense_1.kernel" and np.any(values != 0)]
    assert not others, f"{others} are not zero"


def test_chunks_of_examples_that_do_not_divide_the_batch_change_nothing() -> None:
    parameters, data = random_parameters(), random_data()
    oracle = backend.oracle(Network().apply, data, loss="cross_entropy", parameters=parameters)
    names = frozenset(group.name for group in oracle.groups)
    with ish.memory_limit(8 * 200):
        assert room_within_limit().examples(sum(g.size for g in oracle.groups)) == 3, "the chunks are not those meant"
        diagonal = flat(oracle.gauss_newton_diagonal(oracle.parameters, names))
    assert_close(diagonal, measured("cross_entropy")[1].diagonal(), "the diagonal in chunks")


def test_a_relu_network_is_certified_and_a_gelu_network_is_not() -> None:
    relu, _, _ = measured("cross_entropy")
    defects = curvature_defects(relu)
    assert exact_groups(relu, defects) == {group.name for group in relu.groups}, f"defects {defects}"
    data = random_data()
    gelu = backend.oracle(Network(jax.nn.gelu).apply, data, loss="cross_entropy", parameters=random_parameters())
    defects = curvature_defects(gelu)
    exact = exact_groups(gelu, defects)
    assert exact == {"dense_2.kernel", "dense_2.bias"}, f"certified {sorted(exact)}, defects {defects}"


def test_positions_count_like_examples() -> None:
    """Two positions per example are twice as many examples, and a masked one is none."""
    parameters, (x, y) = random_parameters(), random_data(examples=12)
    masked = np.where(np.arange(12) == 5, -100, y)

    def by_position(tree: Any, inputs: Any) -> Any:
        return Network().apply(tree, inputs.reshape(-1, 4)).reshape(-1, 2, 3)

    pairs = backend.oracle(
        by_position, (x.reshape(6, 2, 4), masked.reshape(6, 2)), loss="cross_entropy", parameters=parameters
    )
    kept = masked >= 0
    single = backend.oracle(Network().apply, (x[kept], y[kept]), loss="cross_entropy", parameters=parameters)
    names = frozenset(group.name for group in pairs.groups)
    for what in ("loss", "gradient_second_moment"):
        values = [getattr(oracle, what)(oracle.parameters) for oracle in (pairs, single)]
        values = values if what == "loss" else [flat(vector) for vector in values]
        assert_close(values[0], values[1], what)
    diagonals = [flat(oracle.gauss_newton_diagonal(oracle.parameters, names)) for oracle in (pairs, single)]
    assert_close(*diagonals, "the diagonal")
