"""What single precision cannot decide: kinks on both sides of a step, chance, and the copy in double precision that decides."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from invariant_sharpness import ParameterVector
from invariant_sharpness.protocol import DoublePrecisionOracle
from invariant_sharpness.testing import CheckFailedError, check_oracle
from invariant_sharpness.testing.differences import (
    Agreement,
    agreement_by_group,
    persists,
    tolerance_of_differences,
)
from invariant_sharpness_numpy import FunctionOracle
from zoo.mutants import Mutant, base, failures

SINGLE, DOUBLE = float(np.finfo(np.float32).eps), float(np.finfo(np.float64).eps)


ENTRIES = 30


def gradient_with_kinks(places: Any, height: float, eps: float, seed: int) -> Callable[[float], ParameterVector]:
    """Entries of slope one between jumps at these places, one row for each entry, all upwards; rounded to this precision."""
    noise = np.random.default_rng(seed)

    def gradient(step: float) -> ParameterVector:
        ahead, behind = (places > 0) & (places < step), (places < 0) & (places > step)
        values = 1.0 + step + height * (ahead.sum(axis=1) - behind.sum(axis=1).astype(float))
        return ParameterVector(np, {"w": values * (1 + eps * noise.uniform(-1, 1, ENTRIES))})

    return gradient


def agreement(density: float, jumps: float, eps: float, seed: int = 0, slope: float = 1.0) -> Agreement:
    """A derivative of this slope, against differences of a gradient to whose slope the jumps add so much."""
    places = np.random.default_rng(seed).uniform(-0.2, 0.2, (ENTRIES, int(0.4 * density)))
    gradient = gradient_with_kinks(places, jumps / max(density, 1.0), eps, seed)
    return agreement_by_group(gradient, ParameterVector(np, {"w": np.full(ENTRIES, slope)}), eps)["w"]


@pytest.mark.parametrize("jumps", [-0.3, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("density", [30, 1e3, 1e4, 1e5])
def test_kinks_on_both_sides_of_every_step_are_not_judged(density: float, jumps: float) -> None:
    """Their jumps add up to a share of the slope on either side, so that forward and backward differences agree."""
    for seed in range(3):
        found = agreement(density, jumps, SINGLE, seed)
        assert found.fits(tolerance_of_differences(SINGLE)), f"seed {seed} is judged: {found}"


def test_between_kinks_a_wrong_derivative_is_told_from_a_right_one() -> None:
    """In double precision there are steps that cross none of them."""
    assert agreement(4000, 0.3, DOUBLE).fits(tolerance_of_differences(DOUBLE))
    wrong = agreement(4000, 0.3, DOUBLE, slope=1.02)
    assert wrong.judged, f"{wrong}"
    assert wrong.error == pytest.approx(0.02 / 1.02, rel=1e-3), f"{wrong}"


@pytest.mark.parametrize("eps", [SINGLE, DOUBLE])
@pytest.mark.parametrize("slope", [0.9, 1.1, 2.0, -1.0, 0.0])
def test_wrong_derivative_of_a_smooth_function_is_judged(eps: float, slope: float) -> None:
    for seed in range(10):
        found = agreement(0, 0.0, eps, seed, slope)
        assert not found.fits(tolerance_of_differences(eps)), f"seed {seed}: {found}"


WRONG, RIGHT, UNSURE = Agreement(0.3, 0.01), Agreement(0.001, 0.01), Agreement(0.3, 0.5)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([WRONG] * 4, True),
        ([WRONG, WRONG, RIGHT, RIGHT], True),
        ([WRONG, RIGHT, RIGHT, RIGHT], False),
        ([WRONG, UNSURE, UNSURE, UNSURE], True),
        ([RIGHT, UNSURE, UNSURE, UNSURE], False),
        ([UNSURE] * 4, True),
    ],
)
def test_disagreement_persists_in_most_of_the_directions_that_can_be_judged(found: Any, expected: bool) -> None:
    assert persists(found.__getitem__, 0.005) is expected


def single(copy: Any, **changes: Callable[..., Any]) -> Any:
    """An oracle that says to be in single precision, with what it answers when it is asked for a copy in double precision."""

    @contextmanager
    def given(_: Any) -> Generator[Any]:
        yield copy()

    oracle = Mutant(base(), in_double_precision=given, **changes)
    oracle.offers = base().offers | {DoublePrecisionOracle}
    oracle.model_rounding = SINGLE
    return oracle


def doubled(oracle: Any, p: ParameterVector, v: ParameterVector) -> ParameterVector:
    return 2.0 * oracle.hessian_vector_product(p, v)


def wrong() -> Any:
    return Mutant(base(), hessian_vector_product=doubled)


def test_copy_in_double_precision_acquits() -> None:
    assert "check_second_derivative" in failures(single(wrong, hessian_vector_product=doubled))
    assert "check_second_derivative" not in failures(single(base, hessian_vector_product=doubled))


def test_copy_in_double_precision_is_asked_where_single_precision_sees_nothing() -> None:
    def rough(oracle: Any, p: ParameterVector) -> ParameterVector:
        return oracle.gradient(p) * float(1 + 0.1 * np.sin(1e9 * p.dot(p)))

    assert "check_second_derivative" not in failures(single(base, gradient=rough))
    found = failures(single(wrong, gradient=rough))["check_second_derivative"]
    assert found.endswith("This is what a copy of the model in double precision shows"), found


def broken() -> Any:
    raise TypeError("no kernel for float64")


@pytest.mark.parametrize("copy", [broken, lambda: Mutant(base(), gradient=lambda *_: broken())], ids=["made", "run"])
def test_copy_that_cannot_be_had_decides_nothing(copy: Callable[[], Any]) -> None:
    assert "check_second_derivative" in failures(single(copy, hessian_vector_product=doubled))


def test_failure_of_the_copy_is_raised_where_failures_are() -> None:
    with pytest.raises(CheckFailedError, match=r"check_second_derivative: .* double precision shows"):
        check_oracle(single(wrong, hessian_vector_product=doubled, hessian_vector_products=blocks))


def blocks(oracle: Any, p: ParameterVector, vectors: Any) -> list[ParameterVector]:
    return [doubled(oracle, p, v) for v in vectors]


def test_oracle_in_double_precision_is_asked_for_no_copy() -> None:
    oracle = FunctionOracle({"w": [1.0]}, lambda p: float(p["w"][0] ** 2), lambda p: {"w": p["w"]}, lambda _, v: v)
    assert "check_gradient" in failures(oracle)
