"""What only TensorFlow has: modules, its own data sets, operations with a wrong second derivative."""

from __future__ import annotations

import pytest

from zoo.keras_results import found, relative_error, tensorflow_alone


@pytest.mark.slow
@tensorflow_alone
def test_plain_module_has_the_metrics_of_the_reference() -> None:
    for name, pair in found("tensorflow", "plain_module")["metrics"].items():
        assert relative_error(pair) <= 1e-9, f"{name} is {pair[0]}, by the NumPy backend {pair[1]}"


@pytest.mark.slow
@tensorflow_alone
def test_plain_module_has_the_products_of_the_dense_jacobian() -> None:
    for what, error in found("tensorflow", "plain_module")["products"].items():
        assert error <= 1e-9, f"relative error {error:.1e} of {what}"


@pytest.mark.slow
@tensorflow_alone
def test_plain_module_passes_the_checks_of_the_library() -> None:
    failed = found("tensorflow", "plain_module")["checks"]["failed"]
    assert not failed, "\n".join(failed)


@pytest.mark.slow
@tensorflow_alone
def test_plain_module_is_what_it_was() -> None:
    module = found("tensorflow", "plain_module")
    assert module["untouched"], "measuring changed the module"
    assert module["after an error"], "an interruption within a pass changed the module"


@tensorflow_alone
def test_batch_larger_than_the_cache_is_squared_in_pieces() -> None:
    batch = found("tensorflow", "pieces_of_a_batch")
    assert batch["pieces"] == [[0, 32], [32, 64]], batch
    assert batch["difference"] <= 1e-13, batch


@tensorflow_alone
def test_data_sets_of_tensorflow() -> None:
    sets = found("tensorflow", "data_sets")
    for form, loss in sets["losses"].items():
        assert loss == pytest.approx(sets["losses"]["arrays"], rel=1e-14), f"{form} has loss {loss}"
    assert "never end, because of repeat()" in sets["endless"]


@tensorflow_alone
def test_rows_of_shuffled_data_are_refused() -> None:
    message = found("tensorflow", "data_sets")["shuffled rows"]
    assert "DataError: the data come in another order on every pass" in message, message


@tensorflow_alone
def test_grouped_convolution_without_a_gradient_is_refused() -> None:
    message = found("tensorflow", "grouped_convolution")
    assert "ModelError: TensorFlow cannot differentiate this model" in message, message


@tensorflow_alone
def test_bilinear_upsampling_has_a_wrong_second_derivative_and_is_refused() -> None:
    upsampling = found("tensorflow", "bilinear_upsampling")
    left, right = upsampling["symmetry"]
    assert abs(left - right) > 1e-2 * abs(left), f"v H u = {left} and u H v = {right}: TensorFlow was mended"
    assert 'UpSampling2D(interpolation="bilinear"), whose second derivative is wrong' in upsampling["layer"]
    assert "contradict one another" in upsampling["operation"]
    assert upsampling["nearest"] == "nothing was raised"


@tensorflow_alone
def test_operations_are_flat_in_the_inputs_that_are_taken_for_flat() -> None:
    largest = found("tensorflow", "flat_inputs")
    assert len(largest) >= 11, largest
    assert set(largest.values()) == {0.0}, f"TensorFlow's derivatives: {largest}"


@tensorflow_alone
def test_a_parameter_is_curved_by_its_form_where_its_block_is_not_zero() -> None:
    networks = found("tensorflow", "forms")
    assert networks["relu"]["curved"] == [], networks
    assert len(networks["tanh"]["curved"]) == 2, "below tanh there are a kernel and a bias"
    assert networks["tied"]["curved"], "a layer that is used twice is in its own slopes"
    assert all(network["form"] == network["curved"] for network in networks.values()), networks
    assert all(network["unknown"] == [] for network in networks.values()), networks


@tensorflow_alone
def test_what_is_affine_in_the_program_of_all_examples_is_not_tested() -> None:
    certified = found("tensorflow", "tests_of_a_piecewise_linear_network")
    assert certified == {"tests": 0, "methods": ["exact"]}, certified


@tensorflow_alone
def test_a_model_that_asks_for_the_length_of_its_sequences_is_traced_for_each_length() -> None:
    sequences = found("tensorflow", "sequences_of_several_lengths")
    loss, expected = sequences["losses"]
    assert loss == pytest.approx(expected, rel=1e-12), f"{loss}, by the model's own calls {expected}"
    assert len(sequences["curved"]) == 2, f"GELU is above the first layer for one length: {sequences['curved']}"
