"""The NumPy oracle and its data: batches, weights and ignored labels are exact, and nothing is changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from invariant_sharpness.losses import CrossEntropy, NormalizedCrossEntropy
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from zoo.numpy_problem import EXAMPLES, problem, random_data, random_network
from zoo.vectors import assert_close, flat

CLASS_WEIGHTS = (0.5, 2.0, 1.25)


def everything(oracle: NetworkOracle) -> dict[str, Any]:
    """Every mean over the data that the oracle can take."""
    parameters = oracle.parameters
    names = frozenset(group.name for group in oracle.groups)
    direction = parameters.map(np.sin)
    return {
        "loss": oracle.loss(parameters),
        "gradient": flat(oracle.gradient(parameters)),
        "Hessian-vector product": flat(oracle.hessian_vector_product(parameters, direction)),
        "Gauss-Newton diagonal": flat(oracle.gauss_newton_diagonal(parameters, names)),
        "gradient second moment": flat(oracle.gradient_second_moment(parameters)),
        "directional second moment": oracle.directional_second_moment(parameters, direction),
    }


@pytest.mark.parametrize("batch_size", [1, 3, 11, 1000])
def test_no_value_depends_on_the_batch_size(batch_size: int) -> None:
    x, y = random_data("cross_entropy")
    loss = CrossEntropy(class_weights=CLASS_WEIGHTS)
    expected = everything(NetworkOracle(random_network(biases=True), x, y, loss, batch_size=5))
    for what, value in everything(NetworkOracle(random_network(biases=True), x, y, loss, batch_size)).items():
        assert_close(value, expected[what], f"{what} in batches of {batch_size}", 1e-14)


@pytest.mark.parametrize("loss", [CrossEntropy, NormalizedCrossEntropy])
def test_ignored_examples_do_not_count(loss: Any) -> None:
    x, y = random_data("cross_entropy")
    ignored = np.where(np.arange(EXAMPLES) % 3 == 0, -100, y)
    expected = everything(NetworkOracle(random_network(biases=True), x[ignored >= 0], y[ignored >= 0], loss()))
    for what, value in everything(NetworkOracle(random_network(biases=True), x, ignored, loss(), 2)).items():
        assert_close(value, expected[what], what, 1e-14)


@pytest.mark.parametrize("loss", [CrossEntropy, NormalizedCrossEntropy])
def test_a_class_of_weight_two_counts_as_if_its_examples_came_twice(loss: Any) -> None:
    x, y = random_data("cross_entropy")
    twice = np.repeat(np.arange(EXAMPLES), np.where(y == 1, 2, 1))
    expected = everything(NetworkOracle(random_network(biases=True), x[twice], y[twice], loss()))
    weighted = NetworkOracle(random_network(biases=True), x, y, loss(class_weights=(1.0, 2.0, 1.0)), 3)
    for what, value in everything(weighted).items():
        assert_close(value, expected[what], what, 1e-14)


def test_integers_and_float32_are_taken_as_float64() -> None:
    x, y = np.arange(8).reshape(2, 4), np.array([0, 2], dtype=np.uint8)
    network = random_network(biases=True)
    expected = everything(NetworkOracle(network, x.astype(np.float64), y.astype(np.int64)))
    for given in (x, x.astype(np.float32), x.tolist()):
        value = everything(NetworkOracle(network, given, y))
        assert all(np.array_equal(value[what], expected[what]) for what in expected), f"{value} instead of {expected}"


# --- purity ---------------------------------------------------------------------------------------


def test_arguments_and_network_are_not_changed() -> None:
    oracle = problem("normalized_cross_entropy", biases=True).oracle
    parameters, direction = oracle.parameters, oracle.parameters.map(np.sin)
    oracle.hessian_vector_product(parameters, direction)
    oracle.output_curvature(parameters, direction, 0)
    everything(oracle)
    assert np.array_equal(flat(parameters), flat(oracle.parameters)), "the parameters were changed"
    assert np.array_equal(flat(direction), np.sin(flat(oracle.parameters))), "the direction was changed"


def test_writing_into_returned_or_given_arrays_does_not_move_the_oracle() -> None:
    x, y = random_data("cross_entropy")
    weights = tuple(W.copy() for W in random_network(biases=False).weights)
    oracle = NetworkOracle(ReluNetwork(weights), x, y)
    before = everything(oracle)
    for array in (x, y, *weights, *oracle.parameters.arrays.values()):
        array[...] = 0
    after = everything(oracle)
    assert all(np.array_equal(before[what], after[what]) for what in before), f"{before} became {after}"


def test_equal_arguments_give_equal_results() -> None:
    oracle = problem("cross_entropy", biases=True).oracle
    first, second = everything(oracle), everything(oracle)
    assert all(np.array_equal(first[what], second[what]) for what in first), f"{first} became {second}"
