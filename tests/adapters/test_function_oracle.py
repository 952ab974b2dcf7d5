"""Oracles made of plain functions: a quadratic, and what is said about functions that return something wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError, NonFiniteError
from invariant_sharpness_numpy import FunctionOracle

A = np.array([[2.0, 1.0], [1.0, 3.0]])


def flattened(vector: ish.ParameterVector) -> Any:
    return np.concatenate([np.ravel(array) for array in vector.arrays.values()])


def quadratic(**changes: Any) -> FunctionOracle:
    """The loss ``tr(W^T A W) / 2 + b^2``."""
    functions: dict[str, Any] = {
        "loss": lambda p: 0.5 * float(np.sum(p["W"] * (A @ p["W"]))) + float(p["b"] ** 2),
        "gradient": lambda p: {"W": A @ p["W"], "b": 2 * p["b"]},
        "hessian_vector_product": lambda _, v: {"b": 2 * v["b"], "W": A @ v["W"]},
    }
    return FunctionOracle({"W": np.array([[1, 2], [3, 4]]), "b": 0.5}, **(functions | changes))


def test_functions_make_an_oracle() -> None:
    oracle = quadratic()
    product = oracle.hessian_vector_product(oracle.parameters, oracle.parameters)
    expected = flattened(oracle.gradient(oracle.parameters))
    assert np.array_equal(flattened(product), expected), (
        f"H theta = {flattened(product)}, but the gradient is {expected}"
    )
    trace = ish.hessian_trace(oracle).value
    assert trace == pytest.approx(2 * np.trace(A) + 2, rel=1e-12), f"trace {trace}, but should be {2 * np.trace(A) + 2}"


def test_arrays_with_two_axes_are_matrices_by_default() -> None:
    roles = {group.name: (group.role, group.output_axes, group.input_axes) for group in quadratic().groups}
    expected = {"W": ("matrix", (0,), (1,)), "b": ("other", (), ())}
    assert roles == expected, f"{roles} instead of {expected}"


def test_functions_that_write_into_their_arguments_do_no_harm() -> None:
    def careless(p: Any) -> Any:
        p["W"] *= 2
        return {"W": A @ p["W"], "b": p["b"]}

    oracle = quadratic(gradient=careless)
    parameters = oracle.parameters
    oracle.gradient(parameters)
    assert np.array_equal(flattened(parameters), flattened(oracle.parameters)), "the parameters were changed"


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (lambda p: {"W": p["W"]}, ModelError, r"gradient\(p\) returned .* differ in b"),
        (lambda p: {**p, "c": 1.0}, ModelError, r"differ in c"),
        (lambda p: {"W": p["W"][0], "b": p["b"]}, ModelError, r"shape \(2,\) in 'W', but the group has shape \(2, 2\)"),
        (lambda p: {"W": p["W"] * 1j, "b": p["b"]}, ModelError, "complex in 'W'"),
        (lambda p: {"W": p["W"], "b": np.nan}, NonFiniteError, "NaN or infinite entries in 'b'"),
        (lambda p: p["W"], ModelError, "is a ndarray, but it has to be a dictionary"),
    ],
)
def test_what_is_wrong_with_a_returned_gradient_is_named(gradient: Any, error: type[Exception], message: str) -> None:
    oracle = quadratic(gradient=gradient)
    with pytest.raises(error, match=message):
        oracle.gradient(oracle.parameters)


def test_what_is_wrong_with_a_returned_product_is_named() -> None:
    oracle = quadratic(hessian_vector_product=lambda _, v: {"W": v["W"]})
    with pytest.raises(ModelError, match=r"hessian_vector_product\(p, v\) returned .* differ in b"):
        oracle.hessian_vector_product(oracle.parameters, oracle.parameters)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    oracle = quadratic(loss=lambda _: np.inf)
    with pytest.raises(NonFiniteError, match=r"loss\(p\) returned inf"):
        oracle.loss(oracle.parameters)


def test_parameters_that_do_not_fit_their_groups_are_refused() -> None:
    groups = (ish.ParameterGroup("W", (2, 2)), ish.ParameterGroup("d", ()))
    with pytest.raises(ModelError, match="differ in b, d"):
        quadratic(groups=groups)


def test_no_parameters_are_refused() -> None:
    with pytest.raises(ModelError, match="parameters is empty"):
        FunctionOracle({}, lambda _: 0.0, lambda _: {}, lambda _p, _v: {})
