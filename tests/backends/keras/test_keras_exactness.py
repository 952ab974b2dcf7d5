"""What the certificate accepts and refuses."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from zoo.keras_results import TOLERANCE, found, relative_error, tensorflow_alone, tensorflow_before_others

with_digits = pytest.mark.skipif(find_spec("sklearn") is None, reason="scikit-learn is not installed")


@tensorflow_before_others
def test_certificate_refuses_what_is_below_a_smooth_layer(engine: str) -> None:
    verdicts = found(engine, "verdicts")
    assert set(verdicts["relu"].values()) == {"exact"}, verdicts["relu"]
    refused = {name.split("/")[1] for name, method in verdicts["gelu"].items() if method != "exact"}
    assert refused == {"hidden0", "hidden1"}, verdicts["gelu"]


@tensorflow_before_others
def test_exact_diagonal_is_that_of_the_columns_of_the_hessian(engine: str) -> None:
    pairs = found(engine, "diagonal_of_the_convolutional_network")
    assert all(pairs.pop("exact"))
    for name, pair in pairs.items():
        assert relative_error(pair) <= TOLERANCE[engine], f"{name}: {pair[0]}, by its column {pair[1]}"


@tensorflow_before_others
def test_a_smooth_branch_that_few_examples_take_is_found(engine: str) -> None:
    methods = {name.removeprefix("gelu/"): method for name, method in found(engine, "rare_branch").items()}
    assert methods.pop("kernel") != "exact"
    assert methods.pop("bias") != "exact"
    assert set(methods.values()) == {"exact"}, methods


@tensorflow_before_others
def test_a_quantized_model_is_refused(engine: str) -> None:
    """Its kernels are integers, and the rounding of the inputs of its layers passes gradients straight through."""
    assert "fake quantization" in found(engine, "quantized")


@pytest.mark.slow
@tensorflow_alone
@with_digits
def test_mobile_network_is_exact_in_every_variable() -> None:
    """Convolutions, batch norm in inference mode, shortcuts and ReLU6 are affine piece by piece."""
    methods = found("tensorflow", "mobile_network")
    for metric, by_variable in methods.items():
        sampled = [name for name, method in by_variable.items() if method != "exact"]
        assert not sampled, f"{metric} is not exact in {sampled}"
    assert len(methods["hessian_trace"]) == 158


@pytest.mark.slow
@tensorflow_alone
@with_digits
def test_one_smooth_activation_makes_all_layers_before_it_inexact() -> None:
    verdicts = found("tensorflow", "mobile_network_with_a_smooth_activation")
    before = {"block_14_expand", "block_14_depthwise", "block_14_project", "block_15_expand"}
    assert set(verdicts["refused"]) == before | {f"{name}_BN" for name in before}
    assert {"block_15_depthwise", "block_16_project", "Conv_1", "predictions"} <= set(verdicts["exact"])


@pytest.mark.slow
@tensorflow_alone
@with_digits
def test_exact_diagonal_after_a_smooth_activation_is_that_of_the_columns_of_the_hessian() -> None:
    for name, pair in found("tensorflow", "mobile_network_with_a_smooth_activation")["entries"].items():
        assert relative_error(pair) <= 1e-9, f"{name}: {pair[0]}, by its column {pair[1]}"
