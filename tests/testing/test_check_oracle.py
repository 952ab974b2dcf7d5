"""Correct oracles pass the checks, whatever their loss, coordinates, precision and capabilities."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import ParameterVector
from invariant_sharpness.testing import CHECKS, check_oracle
from invariant_sharpness_numpy import FunctionOracle
from zoo.mutants import Mutant, assert_no_failure, base
from zoo.numpy_problem import problem
from zoo.seeds import seeds


@seeds(3)
@pytest.mark.parametrize(
    ("loss", "biases"),
    [*itertools.product(["cross_entropy", "normalized_cross_entropy", "mse"], [False, True])],
)
def test_numpy_networks_pass(loss: str, biases: bool, seed: int) -> None:
    assert_no_failure(problem(loss, biases).oracle, seed)


@seeds(3)
def test_oracles_in_other_coordinates_and_elsewhere_pass(seed: int) -> None:
    oracle = base()
    scale = oracle.from_numpy({g.name: np.full(g.shape, 2.0 ** (5 * n - 9)) for n, g in enumerate(oracle.groups)})
    assert_no_failure(ish.Scaled(oracle, scale), seed)
    assert_no_failure(ish.Moved(oracle, 1.25 * oracle.parameters), seed)


def test_every_check_says_something_about_a_complete_oracle() -> None:
    found = {result.check: result.status for result in check_oracle(base())}
    assert found == dict.fromkeys(CHECKS, "passed"), f"not all passed: {found}"


def test_single_precision_noise_is_no_failure() -> None:
    """Every result of a correct oracle is rounded to single precision, as are its parameters."""
    oracle = Mutant(base(), **{name: in_single_precision(name) for name in ROUNDED})
    oracle.parameters = base().parameters.map(np.float32)
    oracle.model_rounding = float(np.finfo(np.float32).eps)
    for seed in range(5):
        assert_no_failure(oracle, seed)


ROUNDED = {
    "loss",
    "hessian_vector_products",
    "gradient",
    "hessian_vector_product",
    "gauss_newton_diagonal",
    "gauss_newton_vector_product",
    "sampled_gauss_newton_diagonal",
    "residual_diagonal",
    "sampled_residual_diagonal",
    "jacobian_vector_product",
    "vector_jacobian_product",
    "outputs",
    "gradient_second_moment",
    "directional_second_moment",
    "output_curvature",
    "from_numpy",
}


def in_single_precision(name: str) -> Callable[..., Any]:
    def rounded(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return type(value)(map(rounded, value))
        if isinstance(value, np.ndarray):
            return value.astype(np.float32).astype(np.float64)
        return value.map(np.float32) if isinstance(value, ParameterVector) else float(np.float32(value))

    return lambda oracle, *arguments, **options: rounded(getattr(oracle, name)(*arguments, **options))


OPTIONAL = {
    "check_block_products",
    "check_gauss_newton_diagonal",
    "check_gauss_newton_product",
    "check_jacobian",
    "check_node_curvature",
    "check_residual_diagonal",
    "check_sampled_outputs",
    "check_second_moments",
}


def test_missing_capabilities_are_skipped_with_a_reason() -> None:
    oracle = FunctionOracle(
        {"w": [1.0]}, lambda p: float(p["w"][0] ** 2), lambda p: {"w": 2 * p["w"]}, lambda _, v: {"w": 2 * v["w"]}
    )
    skipped = {r.check: r.message for r in check_oracle(oracle) if r.status == "skipped"}
    assert skipped.keys() == OPTIONAL, f"{skipped}"
    assert all(skipped.values()), f"a reason is missing: {skipped}"


def test_constant_loss_is_skipped_not_failed() -> None:
    zero = {"w": np.zeros(2)}
    oracle = FunctionOracle({"w": [1.0, 2.0]}, lambda _: 3.0, lambda _: zero, lambda _p, _v: zero)
    assert_no_failure(oracle, seed=0)
