"""Networks that are right are not accused, and those that are not are caught: those of ``docs/experiments/doctor.py``."""

from __future__ import annotations

from typing import Any

import pytest
from doctor_liars import LYING
from doctor_networks import INNOCENT

from invariant_sharpness.errors import InvariantSharpnessError
from invariant_sharpness.testing import CHECKS, check_oracle


@pytest.mark.parametrize(("name", "seed"), [("conv, batch norm, ReLU", 7), ("strided conv, batch norm, ReLU", 10)])
def test_kinks_of_images_with_black_pixels_are_no_failure(name: str, seed: int) -> None:
    """The products of these are right to 1e-6, and differences in single precision are off by 0.4 in a bias."""
    figures = CHECKS["check_second_derivative"](INNOCENT[name](seed), seed)
    assert figures["relative_error"] < 1e-4, f"{figures}"


@pytest.mark.slow
def test_copy_in_double_precision_decides_in_jax() -> None:
    oracle = INNOCENT["ReLU in JAX"](0)
    with oracle.in_double_precision() as copy:
        assert {array.dtype.name for array in copy.gradient(copy.parameters).arrays.values()} == {"float64"}
    assert {array.dtype.name for array in oracle.gradient(oracle.parameters).arrays.values()} == {"float32"}
    figures = CHECKS["check_second_derivative"](oracle, 0)
    assert figures["relative_error"] < 1e-6, f"{figures}"


@pytest.mark.parametrize(
    "name", ["differentiable once", "gradient reversal", "embedding with max_norm", "straight through"]
)
def test_wrong_derivative_behind_kinks_is_found(name: str) -> None:
    found = [check for check in ("check_gradient", "check_second_derivative") if fails(check, LYING[name], 0)]
    assert found, f"{name} is neither refused nor caught"


def fails(check: str, make: Any, seed: int) -> bool:
    try:
        CHECKS[check](make(seed), seed)
    except InvariantSharpnessError:
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", INNOCENT)
def test_network_that_is_right_passes_every_check(name: str, seed: int) -> None:
    failed = [r for r in check_oracle(INNOCENT[name](seed), seed=seed, on_fail="return") if r.status == "failed"]
    assert not failed, f"{name} with seed {seed}: {failed}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # an error is what counts here
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", LYING)
def test_network_that_is_wrong_is_refused_or_fails(name: str, seed: int) -> None:
    with pytest.raises(InvariantSharpnessError):
        check_oracle(LYING[name](seed), seed=seed)
