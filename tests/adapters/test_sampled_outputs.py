"""Diagonals from sampled outputs: unbiased, never negative, equivariant; and the bracket of a minimum that is sampled."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_groups import MOST_OUTPUTS, exact_diagonal
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal
from invariant_sharpness.estimators.sampled_diagonal import sampled_groups
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

CLASSES = MOST_OUTPUTS + 4


def oracle(classes: int = 3, batch_size: int = 4, loss: str = "cross_entropy") -> NetworkOracle:
    random = np.random.default_rng(0)
    network = ReluNetwork(
        (random.normal(size=(5, 4)), random.normal(size=(classes, 5))),
        (random.normal(size=5), random.normal(size=classes)),
    )
    targets = random.normal(size=(11, classes)) if loss == "mse" else random.integers(0, classes, 11)
    return NetworkOracle(network, random.normal(size=(11, 4)), targets, loss, batch_size)


def names(of: ish.CurvatureOracle) -> frozenset[str]:
    return frozenset(group.name for group in of.groups)


@cache
def exact(classes: int, loss: str = "cross_entropy") -> dict[str, Any]:
    """The Gauss-Newton diagonal, which is that of the Hessian here, from all outputs."""
    full = oracle(classes, loss=loss)
    return full.to_numpy(full.gauss_newton_diagonal(full.parameters, names(full)))


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_mean_of_the_draws_is_the_exact_diagonal(loss: str) -> None:
    of = oracle(loss=loss)
    draws = [
        of.to_numpy(of.sampled_gauss_newton_diagonal(of.parameters, names(of), range(k, k + 1), 0)) for k in range(400)
    ]
    for name, expected in exact(3, loss).items():
        values = np.stack([draw[name] for draw in draws])
        error = np.abs(values.mean(axis=0) - expected)
        allowed = 4.5 * values.std(axis=0) / 20 + 1e-12 * expected.max()  # rounding, where draws are all equal
        assert (error <= allowed).all(), f"{name}: off by {(error / allowed).max():.2f} times what is allowed"


def test_no_draw_is_negative() -> None:
    of = oracle()
    for draw in range(20):
        values = of.sampled_gauss_newton_diagonal(of.parameters, names(of), range(draw, draw + 1), 0)
        assert all((array >= 0).all() for array in values.arrays.values())


def test_every_draw_transforms_as_the_diagonal_does() -> None:
    of = oracle()
    factors = 2.0 ** np.array([3, -7, 0, 12, -2])
    W, V, b = "layers.0.weight", "layers.1.weight", "layers.0.bias"
    before = of.to_numpy(of.parameters)
    after = before | {W: before[W] * factors[:, None], b: before[b] * factors, V: before[V] / factors}
    for draw in range(5):
        there = of.from_numpy(after)
        old = of.sampled_gauss_newton_diagonal(of.parameters, names(of), range(draw, draw + 1), 0)
        new = of.sampled_gauss_newton_diagonal(there, names(of), range(draw, draw + 1), 0)
        assert np.array_equal(new[W] * factors[:, None] ** 2, old[W]), f"draw {draw}"
        assert np.array_equal(new[V] / factors**2, old[V]), f"draw {draw}"


@pytest.mark.parametrize("size", [1, 3, 11])
def test_draws_do_not_depend_on_how_batches_are_cut(size: int) -> None:
    one, other = oracle(batch_size=4), oracle(batch_size=size)
    a = one.sampled_gauss_newton_diagonal(one.parameters, names(one), range(3), 0)
    b = other.sampled_gauss_newton_diagonal(other.parameters, names(other), range(3), 0)
    for name in names(one):
        assert np.allclose(a[name], b[name], rtol=1e-12, atol=0), f"{name}: {a[name] - b[name]}"


def test_draws_stay_within_the_named_groups() -> None:
    of = oracle()
    drawn = of.sampled_gauss_newton_diagonal(of.parameters, frozenset({"layers.0.weight"}), range(2), 0)
    assert {name for name, array in drawn.arrays.items() if array.any()} == {"layers.0.weight"}


def test_many_classes_are_sampled_and_say_so() -> None:
    estimate = ish.normalized_sharpness(oracle(CLASSES))
    assert "samples of the outputs" in estimate.method, estimate
    assert estimate.standard_error is not None, estimate
    assert estimate.bracket is not None, estimate


@pytest.mark.parametrize(
    ("classes", "probes", "method"),
    [
        (64, 64, "exact"),
        (65, 64, "64 samples of the outputs"),
        (64, 16, "exact"),
        (65, 16, "16 samples of the outputs"),
        (80, 80, "exact"),
        (81, 80, "80 samples of the outputs"),
    ],
)
def test_outputs_are_sampled_where_that_takes_fewer_passes(classes: int, probes: int, method: str) -> None:
    of = oracle(classes)
    found = ish.normalized_sharpness(of, probes=probes)
    assert found.method == method, f"{found}"
    truth = ish.normalized_sharpness(of, diagonal=exact_diagonal(of, most_outputs=classes)).value
    lower, upper = found.interval(0.999)
    assert lower * (1 - 1e-9) <= truth <= upper * (1 + 1e-9), f"{found}, but the value is {truth}"


def test_report_has_the_values_of_the_metrics_where_outputs_are_sampled() -> None:
    report = ish.measure(oracle(100), ["normalized_sharpness", "hessian_trace"], probes=100)
    assert {estimate.method for estimate in report.values()} == {"exact"}, f"{report}"


def test_outputs_that_cannot_be_sampled_are_exact_up_to_more() -> None:
    of = oracle(65, loss="normalized_cross_entropy")
    assert ish.normalized_sharpness(of, probes=16).method == "exact"


def test_trace_of_many_classes_comes_from_sampled_outputs_too() -> None:
    estimate = ish.hessian_trace(oracle(CLASSES))
    expected = sum(float(values.sum()) for values in exact(CLASSES).values())
    lower, upper = estimate.interval(0.999)
    assert lower <= expected <= upper, f"{estimate}, but the trace is {expected}"


def test_loss_without_a_root_is_probed_instead() -> None:
    of = oracle(CLASSES, loss="normalized_cross_entropy")
    assert not of.samples_outputs
    assert "probes" in ish.normalized_sharpness(of, probes=8).method


@cache
def estimates(draws: int) -> tuple[list[ish.Estimate], float]:
    """Normalized sharpness with many seeds, and its true value."""
    of = oracle(3)
    weights = frozenset(group.name for group in of.groups if group.is_weight)
    diagonals = [HessianDiagonal(sampled_groups(of, weights, draws, seed), draws) for seed in range(200)]
    return [ish.normalized_sharpness(of, diagonal=d) for d in diagonals], ish.normalized_sharpness(of).value


def test_sides_of_the_bracket_are_below_and_above_in_expectation() -> None:
    found, truth = estimates(8)
    lower, upper = (np.array([e.bracket[side] for e in found if e.bracket]) for side in (0, 1))
    for side, values, sign in (("lower", lower, 1), ("upper", upper, -1)):
        excess, error = values.mean() - truth, values.std() / np.sqrt(len(values))
        assert sign * excess <= 2 * error, f"the {side} side is {values.mean()} on average, the truth {truth}"
    assert lower.mean() < upper.mean(), f"{lower.mean()} and {upper.mean()}"


def test_value_between_the_sides_has_less_bias_than_either() -> None:
    found, truth = estimates(8)
    value = np.mean([e.value for e in found]) - truth
    lower, upper = (np.mean([e.bracket[side] for e in found if e.bracket]) - truth for side in (0, 1))
    assert abs(value) < min(abs(lower), abs(upper)) or abs(value) < 0.01 * truth, f"{value}, {lower}, {upper}"


@pytest.mark.slow
@pytest.mark.parametrize("draws", [8, 32])
def test_interval_covers_the_truth(draws: int) -> None:
    """It reaches from below the lower side to above the upper one, so it covers more often than it has to."""
    found, truth = estimates(draws)
    share = np.mean([e.interval()[0] <= truth <= e.interval()[1] for e in found])
    assert share >= 0.92, f"the 95 % interval from {draws} draws covers {share:.1%} of the time"
