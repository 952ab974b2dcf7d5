"""The residual part of the diagonal on TensorFlow, layer by layer, against dense Hessians."""

from __future__ import annotations

import pytest

from zoo.keras_results import found, tensorflow_alone

NETWORKS = ("perceptron", "convolutional", "encoder", "gated", "transposed units", "recurrent", "shared")
OUTSIDE = {
    "recurrent": {"gru/gru_cell/kernel", "gru/gru_cell/recurrent_kernel", "gru/gru_cell/bias"},
    "shared": {"twice/kernel", "twice/bias"},
}

pytestmark = [pytest.mark.slow, tensorflow_alone]


@pytest.mark.parametrize("network", NETWORKS)
def test_unit_vectors_give_the_residual_diagonal(network: str) -> None:
    for name, error in found("tensorflow", "residual_diagonals")[network].items():
        assert error <= 1e-13, f"{name} is off by {error:.1e}"


@pytest.mark.parametrize("network", NETWORKS)
def test_every_variable_of_a_layer_that_is_passed_once_has_units(network: str) -> None:
    outside = set(found("tensorflow", "variables_outside_of_layers")[network])
    assert outside == OUTSIDE.get(network, set()), f"{sorted(outside)} belong to no layer"


def test_unit_vectors_in_single_precision_are_off_by_rounding() -> None:
    """Ten units of rounding of the largest entry of h: both dense diagonals that are subtracted are in single precision, too."""
    for name, error in found("tensorflow", "residual_diagonal_in_single_precision").items():
        assert error <= 1e-6, f"{name} is off by {error:.1e} of the largest entry"


@pytest.mark.parametrize("network", ["convolutional", "encoder"])
def test_draws_are_unbiased(network: str) -> None:
    for name, errors in found("tensorflow", "errors_of_means_of_draws")[network].items():
        assert errors <= 5, f"the mean of {name} is off by {errors:.1f} standard errors"


def test_a_draw_is_the_same_in_batches_of_any_size() -> None:
    for name, error in found("tensorflow", "draws_in_batches").items():
        assert error <= 1e-13, f"{name} moves by {error:.1e}"


def test_a_draw_moves_with_a_rescaling_bit_by_bit() -> None:
    variables = found("tensorflow", "draws_after_a_rescaling")
    for name, moved in variables.items():
        assert moved["same"], f"{name} ({moved['method']}) moved otherwise"
    assert variables["up/kernel"]["method"] == variables["gate/kernel"]["method"] == "layer draws", variables
