"""Every metric on every engine is that of the NumPy and of the PyTorch backend."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

import invariant_sharpness as ish
from zoo.keras_results import DOUBLE, TOLERANCE, every_engine, every_engine_deep, found, relative_error

with_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")


ILL_CONDITIONED = ("kl_regret", "congruent_contrastive_ratio")
"""They invert curvatures, also of outputs that the network is sure of; in single precision these are rounding, and are left out."""

DIFFERENCES = {"expected_sharpness": 1e-3}
"""A rise of 0.001 of a loss of 3: in single precision it has three digits."""


@every_engine_deep
@pytest.mark.parametrize("name", ish.METRICS)
def test_every_metric_is_that_of_the_reference(name: str, engine: str) -> None:
    if name in ILL_CONDITIONED and not DOUBLE[engine]:
        pytest.skip(f"{name} needs double precision for this network, and {engine} has single")
    value, expected, _ = found(engine, "every_metric_of_the_reference")[name]
    error = relative_error([value, expected])
    tolerance = TOLERANCE[engine] if DOUBLE[engine] else DIFFERENCES.get(name, TOLERANCE[engine])
    assert error <= tolerance, f"{name} is {value}, by the NumPy backend {expected} ({error:.1e})"


@every_engine_deep
def test_kl_regret_says_where_single_precision_is_too_little(engine: str) -> None:
    value, expected, converged = found(engine, "every_metric_of_the_reference")["kl_regret"]
    assert converged == DOUBLE[engine], f"it is {value}, by the NumPy backend {expected}, and converged: {converged}"


@every_engine_deep
def test_metrics_under_the_normalized_loss_are_those_of_the_reference(engine: str) -> None:
    for what, pair in found(engine, "metrics_under_the_normalized_loss").items():
        error = relative_error(pair)
        assert error <= TOLERANCE[engine], f"{what} is {pair[0]}, by the NumPy backend {pair[1]} ({error:.1e})"


@every_engine
def test_metrics_from_end_to_end_are_those_of_the_reference(engine: str) -> None:
    for what, pair in found(engine, "metrics_from_end_to_end").items():
        error = relative_error(pair)
        assert error <= TOLERANCE[engine], f"{what} is {pair[0]}, by the NumPy backend {pair[1]} ({error:.1e})"


@every_engine
def test_squared_error_is_that_of_the_reference(engine: str) -> None:
    pair = found(engine, "squared_error")
    assert relative_error(pair) <= TOLERANCE[engine], f"the trace is {pair[0]}, by the NumPy backend {pair[1]}"


@every_engine
def test_callable_has_the_values_of_the_named_loss(engine: str) -> None:
    for what, pair in found(engine, "callable_loss").items():
        assert relative_error(pair) <= TOLERANCE[engine], f"{what} is {pair[0]}, by name {pair[1]}"


@every_engine
def test_gradient_is_the_slope_of_the_loss(engine: str) -> None:
    slope, difference = found(engine, "derivative_by_differences")
    assert slope == pytest.approx(difference, rel=1e-3)


@every_engine_deep
@with_torch
def test_convolutional_network_is_that_of_the_torch_backend(engine: str) -> None:
    for name, pair in found(engine, "convolutional_network_in_torch").items():
        error = relative_error(pair)
        assert error <= TOLERANCE[engine], f"{name} is {pair[0]}, on PyTorch {pair[1]} ({error:.1e})"


@every_engine_deep
@with_torch
def test_residual_network_is_that_of_the_torch_backend(engine: str) -> None:
    for name, pair in found(engine, "residual_network_in_torch").items():
        error = relative_error(pair)
        assert error <= TOLERANCE[engine], f"{name} is {pair[0]}, on PyTorch {pair[1]} ({error:.1e})"
