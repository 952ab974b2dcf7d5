"""Batch sharpness: closed forms of quadratic losses of minibatches, jackknife, invariance and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.errors import ArgumentError, MissingCapabilityError, NonFiniteError
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle, ReluNetwork
from zoo import numpy_problem
from zoo.rescaled import assert_invariant_in_balanced_coordinates
from zoo.vectors import assert_close

EXAMPLES, INPUTS = 36, 5
X = np.random.default_rng(0).normal(size=(EXAMPLES, INPUTS))
Y = np.random.default_rng(1).normal(size=(EXAMPLES, 1))
W = np.random.default_rng(2).normal(size=(1, INPUTS))
BOTH = pytest.mark.parametrize("metric", [ish.batch_sharpness, ish.pooled_batch_sharpness])


def oracle() -> NetworkOracle:
    return NetworkOracle(ReluNetwork((W,)), X, Y, "mse")


def along_gradients(size: int, count: int) -> Any:
    """Rows (g'Hg, g'g) of the squared error of each minibatch: g = 2 X'(Xw - y) / m and H = 2 X'X / m."""
    rows = []
    for part in prng.permutation(0, EXAMPLES)[: size * count].reshape(count, size):
        g = 2 * X[part].T @ (X[part] @ W[0] - Y[part, 0]) / size
        H = 2 * X[part].T @ X[part] / size
        rows.append((g @ H @ g, g @ g))
    return np.array(rows)


@pytest.mark.parametrize(("size", "count"), [(None, 4), (9, 4), (9, 3), (1, 36), (12, 3)])
def test_values_are_the_closed_forms(size: int | None, count: int) -> None:
    rows = along_gradients(size or EXAMPLES // count, count)
    ratio = ish.batch_sharpness(oracle(), size=size, minibatches=count)
    pooled = ish.pooled_batch_sharpness(oracle(), size=size, minibatches=count)
    assert_close(ratio.value, np.mean(rows[:, 0] / rows[:, 1]), "mean of ratios", 1e-12)
    assert_close(pooled.value, rows[:, 0].mean() / rows[:, 1].mean(), "ratio of means", 1e-12)


def test_errors_are_those_of_the_jackknife() -> None:
    rows, count = along_gradients(4, 9), 9
    ratios = rows[:, 0] / rows[:, 1]
    left_out = [np.delete(rows, b, axis=0).sum(axis=0) for b in range(count)]
    pooled = np.array([a / b for a, b in left_out])
    expected = np.std(ratios, ddof=1) / count**0.5, ((count - 1) / count * np.sum((pooled - pooled.mean()) ** 2)) ** 0.5
    for metric, error in zip((ish.batch_sharpness, ish.pooled_batch_sharpness), expected, strict=True):
        found = metric(oracle(), size=4, minibatches=count)
        assert found.degrees_of_freedom == count - 1
        assert found.standard_error is not None
        assert_close(found.standard_error, error, f"error of {metric.name}", 1e-12)


@BOTH
def test_minibatches_that_are_alike_have_the_curvature_along_the_gradient(metric: Any) -> None:
    """Three times the same data, so that each minibatch of one example each ... has g'Hg / g'g of the whole."""
    x, y = np.ones((6, 1)) @ X[:1], np.ones((6, 1)) @ Y[:1]
    alike = NetworkOracle(ReluNetwork((W,)), x, y, "mse")
    g = alike.gradient(alike.parameters)
    expected = g.dot(alike.hessian_vector_product(alike.parameters, g)) / g.dot(g)
    found = metric(alike, minibatches=3)
    assert_close(found.value, expected, "value", 1e-12)
    assert found.standard_error == pytest.approx(0, abs=1e-12)


@BOTH
def test_it_is_invariant_in_coordinates_that_move_with_the_parameters(metric: Any) -> None:
    network = numpy_problem.problem("cross_entropy", biases=True).oracle
    assert_invariant_in_balanced_coordinates(lambda one: metric(one, minibatches=4), network)


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minibatches": 2}, "need at least 3"),
        ({"minibatches": 37}, "there are only 36 examples"),
        ({"size": 10, "minibatches": 4}, "4 minibatches of 36 examples have at most 9 examples each"),
        ({"size": 0}, "at least one example each"),
    ],
)
def test_wrong_sizes_are_refused(metric: Any, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(oracle(), **options)


def test_wrong_size_is_an_error_of_the_library() -> None:
    with pytest.raises(ArgumentError):
        ish.batch_sharpness(oracle(), size=13, minibatches=3)


@BOTH
def test_data_that_are_fitted_have_no_direction(metric: Any) -> None:
    fitted = NetworkOracle(ReluNetwork((W,)), X, X @ W.T, "mse")
    with pytest.raises(NonFiniteError, match="the gradient of a minibatch is zero"):
        metric(fitted, minibatches=3)


@BOTH
def test_oracle_without_examples_is_told_what_is_missing(metric: Any) -> None:
    bare = FunctionOracle({"w": np.ones(3)}, lambda _: 0.0, lambda p: p, lambda _, v: v)
    with pytest.raises(MissingCapabilityError, match=f"{metric.name} needs examples, subset"):
        metric(bare)
