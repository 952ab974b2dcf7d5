"""Outputs of the first examples and products with their Jacobian, against the dense one that JAX builds without the library."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import DataError
from invariant_sharpness.protocol import JacobianOracle, supports
from zoo.jax_networks import EXAMPLES, Network, dense_jacobian, random_data, random_parameters
from zoo.vectors import assert_close, direction, flat, vector_of

COUNTS = [1, 4, 6, EXAMPLES, 100]
"""Less than a batch, a batch, into the second one, all examples, and more than there are."""


@cache
def oracle() -> Any:
    """In batches of 4, 4 and 3 examples."""
    return ish.oracle(Network().apply, random_data(), parameters=random_parameters(), batch_size=4)


@cache
def jacobian(seed: int = 3) -> Any:
    return dense_jacobian(Network().apply, random_parameters(seed), random_data()[0])


def outputs(seed: int = 3) -> Any:
    return np.asarray(Network().apply(random_parameters(seed), random_data()[0]))


def cotangents(examples: int = EXAMPLES) -> Any:
    return np.random.default_rng(6).normal(size=(examples, 3))


def test_the_oracle_has_the_capability() -> None:
    assert supports(oracle(), JacobianOracle), "a method is missing"


@pytest.mark.parametrize("examples", COUNTS)
def test_outputs_are_those_of_the_first_examples(examples: int) -> None:
    assert_close(oracle().outputs(oracle().parameters, examples), outputs()[:examples], "the outputs")


@pytest.mark.parametrize("examples", COUNTS)
def test_the_product_is_that_of_the_dense_jacobian(examples: int) -> None:
    u = direction(oracle())
    rows = oracle().jacobian_vector_product(oracle().parameters, u, examples)
    assert_close(rows, (jacobian() @ flat(u))[:examples], "the rows")


@pytest.mark.parametrize("examples", [0, *COUNTS[:-1]])
def test_the_transposed_product_is_that_of_the_dense_jacobian(examples: int) -> None:
    c = cotangents(examples)
    found = flat(oracle().vector_jacobian_product(oracle().parameters, c))
    expected = np.einsum("nk,nkp->p", c, jacobian()[:examples])
    error = np.abs(found - expected).max()
    assert error <= 1e-12, f"off by {error:.1e}: {found} instead of {expected}"


def test_the_two_products_are_adjoint() -> None:
    p, u, c = oracle().parameters, direction(oracle(), seed=1), cotangents()
    forward = float(np.sum(c * oracle().jacobian_vector_product(p, u, EXAMPLES)))
    backward = u.dot(oracle().vector_jacobian_product(p, c))
    assert forward == pytest.approx(backward, rel=1e-12), f"<c, J u> = {forward}, <J^T c, u> = {backward}"


def test_at_another_point_in_other_coordinates_the_jacobian_is_j_s() -> None:
    moved = ish.Moved(oracle(), oracle().from_tree(random_parameters(seed=9)))
    s = np.random.default_rng(2).uniform(0.1, 10, flat(moved.parameters).size)
    scaled = ish.Scaled(moved, vector_of(oracle(), s))
    p, u, c, expected = scaled.parameters, direction(oracle()), cotangents(), jacobian(seed=9) * s
    assert_close(scaled.outputs(p, EXAMPLES), outputs(seed=9), "the outputs")
    assert_close(scaled.jacobian_vector_product(p, u, EXAMPLES), expected @ flat(u), "J u")
    transposed = flat(scaled.vector_jacobian_product(p, c))
    assert_close(transposed, np.einsum("nk,nkp->p", c, expected), "J^T c")


def by_position(tree: Any, inputs: Any) -> Any:
    """Outputs (n, t, 3) of inputs (n, t, 4)."""
    return Network().apply(tree, inputs.reshape(-1, 4)).reshape(len(inputs), -1, 3)


def test_all_axes_of_the_outputs_are_flattened() -> None:
    x, y = random_data(examples=12)
    pairs = ish.oracle(by_position, (x.reshape(6, 2, 4), y.reshape(6, 2)), parameters=random_parameters())
    expected = np.asarray(Network().apply(random_parameters(), x)).reshape(6, 6)
    assert_close(pairs.outputs(pairs.parameters, 6), expected, "the outputs")


def test_rows_of_a_network_in_single_precision_are_float64() -> None:
    able = ish.oracle(Network().apply, random_data(), parameters=random_parameters(), dtype="float32")
    p = able.parameters
    rows = [able.outputs(p, 4), able.jacobian_vector_product(p, direction(able), 4)]
    assert all(type(part) is np.ndarray and part.dtype == np.float64 for part in rows), f"{rows}"
    dtypes = {array.dtype for array in able.vector_jacobian_product(p, cotangents(4)).arrays.values()}
    assert dtypes == {np.dtype(np.float32)}, f"{dtypes}"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.ones((4, 2)), "2 numbers per row, but an example has 3 outputs"),
        (np.ones((4, 3, 1)), r"shape \(4, 3, 1\), but they are one row"),
        (np.ones(3), r"shape \(3,\), but they are one row"),
        (np.ones((EXAMPLES + 2, 3)), "2 more rows of cotangents than examples"),
    ],
)
def test_cotangents_that_do_not_fit_are_refused(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        oracle().vector_jacobian_product(oracle().parameters, wrong)


def test_no_example_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="at least one example"):
        oracle().outputs(oracle().parameters, 0)


def test_examples_with_different_numbers_of_outputs_are_refused() -> None:
    """Sequences of 2 and of 3 positions; the first batch alone is fine."""
    random = np.random.default_rng(0)
    data = [(random.normal(size=(2, t, 4)), random.integers(0, 3, (2, t))) for t in (2, 3)]
    able = ish.oracle(by_position, data, parameters=random_parameters())
    p = able.parameters
    assert able.outputs(p, 2).shape == (2, 6)
    with pytest.raises(DataError, match="6 and 9 outputs"):
        able.outputs(p, 3)
    with pytest.raises(DataError, match="6 and 9 outputs"):
        able.jacobian_vector_product(p, p, 3)
    with pytest.raises(DataError, match=r"outputs of shape \(2, 3\) and \(3, 3\)"):
        able.vector_jacobian_product(p, np.ones((3, 6)))


class Loader:
    """Batches that are not in memory, in the order that a generator of random numbers gives."""

    def __init__(self, random: Any) -> None:
        self.random = random

    def __iter__(self) -> Iterator[Any]:
        x, y = random_data()
        for rows in np.array_split(self.random.permutation(EXAMPLES), 2):
            yield x[rows], y[rows]


def test_a_loader_that_shuffles_by_the_global_state_repeats_its_order() -> None:
    able = ish.oracle(Network().apply, Loader(np.random), parameters=random_parameters())
    rows = [able.outputs(able.parameters, examples) for examples in (3, 8)]
    assert np.array_equal(rows[0], rows[1][:3]), f"{rows}"


def test_shuffled_examples_have_no_first_ones() -> None:
    able = ish.oracle(Network().apply, Loader(np.random.default_rng(0)), parameters=random_parameters())
    able.outputs(able.parameters, 3)
    with pytest.raises(DataError, match="another order on every pass"):
        able.outputs(able.parameters, 3)


def test_a_pass_leaves_the_users_random_state_alone() -> None:
    able = ish.oracle(Network().apply, Loader(np.random), parameters=random_parameters())
    p = able.parameters
    methods = {
        "loss": lambda: able.loss(p),
        "gradient": lambda: able.gradient(p),
        "outputs": lambda: able.outputs(p, 2),
        "transposed product": lambda: able.vector_jacobian_product(p, cotangents(2)),
    }
    for name, method in methods.items():
        before = global_state()
        method()
        assert np.array_equal(global_state(), before), f"{name} moved it"
    with pytest.raises(ValueError, match="2 numbers per row"):
        able.vector_jacobian_product(p, np.ones((2, 2)))
    assert np.array_equal(global_state(), before), "a method that raised moved it"


def global_state() -> Any:
    return np.random.get_state()[1].copy()  # noqa: NPY002
