"""Products with the Gauss-Newton matrix and the outputs' Jacobian, and the checks of the library."""

from __future__ import annotations

import pytest

from zoo.keras_results import TOLERANCE, every_engine_deep, found, relative_error, tensorflow_before_others


@tensorflow_before_others
@pytest.mark.parametrize("loss", ["cross_entropy", "normalized_cross_entropy", "mse", "weighted"])
def test_curvature_product_is_that_of_the_dense_matrix(engine: str, loss: str) -> None:
    error = found(engine, "gauss_newton_product")[loss]["error"]
    assert error <= TOLERANCE[engine], f"relative error {error:.1e} of G v"


@tensorflow_before_others
def test_curvature_of_normalized_cross_entropy_is_indefinite(engine: str) -> None:
    least = found(engine, "gauss_newton_product")["normalized_cross_entropy"]["least"]
    assert least < -0.1, f"the least eigenvalue is {least:.2g} of the largest: the test sees no negative curvature"


@tensorflow_before_others
@pytest.mark.parametrize("coordinates", ["raw", "scaled"])
def test_products_are_those_of_the_dense_jacobian(engine: str, coordinates: str) -> None:
    for what, error in found(engine, "products_of_the_perceptron")[coordinates].items():
        assert error <= TOLERANCE[engine], f"relative error {error:.1e} of {what} in {coordinates} coordinates"


@tensorflow_before_others
def test_products_in_a_block_are_those_of_the_reference(engine: str) -> None:
    block = found(engine, "block_of_products")
    assert block["products"] == 9
    assert block["error"] <= TOLERANCE[engine], f"relative error {block['error']:.1e} of products in a block"


@tensorflow_before_others
def test_products_of_a_convolutional_network_are_adjoint(engine: str) -> None:
    for what, pair in found(engine, "adjoint_products").items():
        assert pair[0] != 0, f"{what}: both sides are zero"
        assert relative_error(pair) <= TOLERANCE[engine], f"{what}: {pair[0]} on one side, {pair[1]} on the other"


@tensorflow_before_others
def test_rows_are_the_first_examples(engine: str) -> None:
    rows = found(engine, "rows_of_examples")
    assert rows["more than there are"] == [11, 3]
    assert rows["tokens"] == [2, 12], "the outputs of an example are its tokens' outputs, flattened"


ERRORS = {
    "lengths": "DataError: examples have 9 and 12 outputs",
    "no examples": "DataError: no examples were asked for",
    "no rows": "ArgumentError: cotangents have shape (3,)",
    "wide rows": "ArgumentError: cotangents have 4 numbers per row, but an example has 3 outputs",
    "many rows": "ArgumentError: there are 2 more rows of cotangents than examples",
}


@tensorflow_before_others
@pytest.mark.parametrize("what", ERRORS)
def test_rows_that_do_not_fit_are_refused(engine: str, what: str) -> None:
    message = found(engine, "rows_of_examples")[what]
    assert ERRORS[what] in message, message


@tensorflow_before_others
def test_perceptron_passes_the_checks_of_the_library(engine: str) -> None:
    assert_passed(found(engine, "conformance_of_the_perceptron"))


@every_engine_deep
def test_convolutional_network_passes_the_checks_of_the_library(engine: str) -> None:
    assert_passed(found(engine, "conformance_of_the_convolutional_network"))


def assert_passed(outcome: dict[str, list[str]]) -> None:
    assert not outcome["failed"], "\n".join(outcome["failed"])
    assert {"check_block_products", "check_gauss_newton_product", "check_jacobian"} <= {
        line.split()[0] for line in outcome["passed"]
    }
