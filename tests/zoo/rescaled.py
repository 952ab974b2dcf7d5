"""The same function, whose hidden units are rescaled by random powers of two."""

from __future__ import annotations

from typing import Any

import numpy as np

import invariant_sharpness as ish
from invariant_sharpness.symmetries import chain_rescalings, unit_count


def rescaled(oracle: Any, seed: int = 0) -> ish.Moved:
    random, parameters = np.random.default_rng(seed), oracle.parameters
    for rescaling in chain_rescalings(oracle.groups):
        factors = np.ldexp(1.0, random.integers(-6, 7, unit_count(oracle.groups, rescaling)))
        parameters = rescaling.apply(oracle, parameters, factors)
    return ish.Moved(oracle, parameters)


def values_before_and_after(measure: Any, oracle: Any) -> tuple[list[float], list[float]]:
    """A measure before and after a rescaling, as it stands and in balanced coordinates."""
    both = (oracle, rescaled(oracle))
    scaled = [ish.Scaled(one, ish.scales.balanced(one)) for one in both]
    return [measure(one).value for one in both], [measure(one).value for one in scaled]


def assert_invariant_in_balanced_coordinates(measure: Any, oracle: Any) -> None:
    """It moves as it stands, and stays where the coordinates move with the parameters."""
    raw, scaled = values_before_and_after(measure, oracle)
    assert abs(raw[1] / raw[0] - 1) > 1e-2, f"it stayed at {raw}"
    assert abs(scaled[1] / scaled[0] - 1) <= 1e-9, f"in balanced coordinates it moved from {scaled[0]} to {scaled[1]}"
