"""Rules of layers are trusted up to what rounding does to a model."""

from __future__ import annotations

import numpy as np

from invariant_sharpness_keras.trusted_rules import disagreements, nudged

EXPECTED = [np.random.default_rng(number).uniform(0.1, 1, 50).astype(np.float32) for number in range(3)]
"""Squares of three parameters."""


def moved(by: float) -> list[np.ndarray]:
    """Squares of a model that makes so much of a rounding error."""
    return [squares * np.float32(1 + by) for squares in EXPECTED]


def never() -> list[np.ndarray]:
    raise AssertionError("where everything agrees, nothing is computed again")


def test_rules_that_agree_are_trusted_without_another_look() -> None:
    assert disagreements(dict(enumerate(EXPECTED)), EXPECTED, never) == set()


def test_a_rule_within_the_rounding_of_the_model_is_trusted() -> None:
    found = dict(enumerate(moved(2e-3)))
    assert disagreements(found, EXPECTED, lambda: moved(1e-3)) == set(), "rounding alone moves the squares by 1e-3"


def test_a_rule_beyond_the_rounding_of_the_model_is_wrong() -> None:
    found = {0: EXPECTED[0], 1: EXPECTED[1] * np.float32(1.002)}
    assert disagreements(found, EXPECTED, lambda: moved(1e-6)) == {1}, (
        "rounding moves the squares by 1e-6, and one by 2e-3"
    )


def test_rounding_does_not_excuse_a_rule_that_is_wrong_by_a_factor() -> None:
    found = {2: EXPECTED[2] * np.float32(1.3)}
    assert disagreements(found, EXPECTED, lambda: moved(0.5)) == {2}


def test_inputs_are_nudged_by_a_rounding_error_and_whole_numbers_stay() -> None:
    floats, numbers = np.ones((4, 3), np.float32), np.arange(4)
    at_floats, at_numbers = (np.asarray(array) for array in nudged((floats, numbers)))
    shift = np.abs(at_floats - floats).max()
    assert 0 < shift <= 3e-7, f"moved by {shift:.1e}"
    assert np.array_equal(at_numbers, numbers)
