"""Measures of minibatches of a given size, and the rise after one step along the gradient."""

from __future__ import annotations

import pickle
from math import inf

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.errors import ArgumentError, MissingCapabilityError
from invariant_sharpness_numpy import NetworkOracle, quadratic
from zoo import numpy_problem
from zoo.rescaled import assert_invariant_in_balanced_coordinates
from zoo.vectors import assert_close


def oracle() -> NetworkOracle:
    return numpy_problem.problem("cross_entropy", biases=True).oracle


def test_one_step_of_a_quadratic() -> None:
    H, theta = np.diag([1.0, 3.0]), np.array([2.0, -1.0])
    g = H @ theta
    there = theta + 0.3 * g / np.linalg.norm(g)
    found = ish.one_step_sharpness(quadratic(H, theta[None]), radius=0.3).value
    assert_close(found, there @ H @ there / 2 - theta @ H @ theta / 2, "one-step sharpness", 1e-12)


def test_one_step_is_at_most_the_maximum_in_the_ball() -> None:
    model = oracle()
    largest = ish.worst_case_sharpness(model, radius=0.1).value * (1 + model.loss(model.parameters))
    one = ish.one_step_sharpness(model, radius=0.1).value
    assert 0 < one <= largest * (1 + 1e-9), f"{one} is above {largest}"


def test_one_step_from_a_minimum_does_not_move() -> None:
    found = ish.one_step_sharpness(quadratic(np.eye(2), np.zeros((1, 2))))
    assert found.value == 0.0
    assert found.notes == ("the gradient is zero: there is no step along it",)


def test_one_step_is_invariant_in_coordinates_that_move_with_the_parameters() -> None:
    assert_invariant_in_balanced_coordinates(ish.one_step_sharpness, oracle())


@pytest.mark.parametrize("name", ["hessian_trace", "one_step_sharpness", "worst_case_adaptive_sharpness"])
def test_all_data_in_one_minibatch_is_the_metric_itself(name: str) -> None:
    plain, whole = ish.METRICS[name](oracle()), ish.over_minibatches(ish.METRICS[name], size=11)(oracle())
    assert (whole.value, whole.standard_error, whole.bracket) == (plain.value, plain.standard_error, plain.bracket)


def test_value_is_the_mean_and_the_error_that_of_a_mean() -> None:
    p = numpy_problem.problem("cross_entropy", biases=True)
    parts = prng.permutation(0, 11)[:9].reshape(3, 3)
    values = [
        ish.one_step_sharpness(NetworkOracle(p.oracle.network, p.x[part], p.y[part], "cross_entropy")).value
        for part in parts
    ]
    found = ish.over_minibatches(ish.one_step_sharpness, size=3)(p.oracle)
    assert_close(found.value, np.mean(values), "mean", 1e-12)
    assert found.standard_error is not None
    assert_close(found.standard_error, np.std(values, ddof=1) / 3**0.5, "standard error", 1e-10)
    assert found.degrees_of_freedom == 2


def test_maximum_is_larger_in_smaller_minibatches() -> None:
    """A mean of maxima is at least the maximum of the mean, here up to the search and the example that is left over."""
    metric = ish.worst_case_adaptive_sharpness.with_options(radius=0.1)
    small, whole = ish.over_minibatches(metric, size=1)(oracle()), metric(oracle())
    assert small.value >= whole.value, f"{small} and {whole}"
    assert small.bracket is not None
    assert small.bracket.upper == inf


def test_names_tell_one_step_from_maximized() -> None:
    metrics = [
        ish.over_minibatches(ish.one_step_sharpness, size=4),
        ish.over_minibatches(ish.worst_case_sharpness, size=4),
    ]
    report = ish.measure(oracle(), metrics)
    assert list(report) == ["one_step_sharpness over minibatches of 4", "worst_case_sharpness over minibatches of 4"]
    assert all(report[m.name].name == m.name for m in metrics)


def test_declaration_is_that_of_the_metric() -> None:
    metric = ish.over_minibatches(ish.normalized_sharpness, size=4)
    assert metric.invariances == ish.normalized_sharpness.invariances
    assert "E_b" in metric.equation
    assert pickle.loads(pickle.dumps(metric))(oracle()) == metric(oracle())


@pytest.mark.parametrize("minibatches", [1, 2])
def test_fewer_minibatches_are_the_first_of_them(minibatches: int) -> None:
    found = ish.over_minibatches(ish.hessian_trace, size=3, minibatches=minibatches)(oracle())
    parts = prng.permutation(0, 11)[: 3 * minibatches].reshape(minibatches, 3).tolist()
    expected = np.mean([ish.hessian_trace(oracle().subset(part)).value for part in parts])
    assert_close(found.value, expected, "mean", 1e-12)


def test_callable_of_ones_own_is_averaged() -> None:
    def loss(one: ish.CurvatureOracle) -> ish.Estimate:
        return ish.Estimate("loss", one.loss(one.parameters), "exact")

    found = ish.over_minibatches(loss, size=1)(oracle())
    assert_close(found.value, oracle().loss(oracle().parameters), "mean of the losses", 1e-12)
    assert found.name == "loss over minibatches of 1"


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ArgumentError, match="size=0"):
        ish.over_minibatches(ish.hessian_trace, size=0)
    with pytest.raises(ArgumentError, match="there are only 11"):
        ish.over_minibatches(ish.hessian_trace, size=12)(oracle())
    with pytest.raises(ArgumentError, match="4 minibatches of size=3 need 12 examples"):
        ish.over_minibatches(ish.hessian_trace, size=3, minibatches=4)(oracle())


def test_oracle_without_examples_is_told_what_is_missing() -> None:
    with pytest.raises(MissingCapabilityError, match="over_minibatches needs examples, subset"):
        ish.over_minibatches(ish.hessian_trace, size=1)(quadratic(np.eye(2), np.ones((1, 2))))
