"""In equivariant coordinates every draw and every Lanczos step stays the same when a network is rescaled, and in other frameworks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.coordinates import balanced, magnitudes
from invariant_sharpness.symmetries import chain_rescalings, unit_count
from zoo import numpy_problem
from zoo.estimator_numbers import NUMBERS


def oracle() -> ish.CurvatureOracle:
    return numpy_problem.problem("cross_entropy", True).oracle


def moved() -> ish.Moved:
    """The same function, its hidden units rescaled by factors between 1e-3 and 1e3."""
    rng = np.random.default_rng(7)
    parameters = oracle().parameters
    for rescaling in chain_rescalings(oracle().groups):
        factors = 10 ** rng.uniform(-3, 3, unit_count(oracle().groups, rescaling))
        parameters = rescaling.apply(oracle(), parameters, factors)
    return ish.Moved(oracle(), parameters)


@pytest.mark.parametrize("scale", [magnitudes, balanced], ids=lambda s: s.__name__)
@pytest.mark.parametrize("name", NUMBERS)
def test_same_draws_give_the_same_numbers_when_units_are_rescaled(name: str, scale: Any) -> None:
    raw = [NUMBERS[name](here) for here in (oracle(), moved())]
    assert np.abs(raw[1] - raw[0]).max() > np.abs(raw[0]).max(), f"the raw numbers of {name} hardly moved: {raw}"
    first, second = (NUMBERS[name](ish.Scaled(here, scale(here))) for here in (oracle(), moved()))
    change = np.abs(second - first).max() / np.abs(first).max()
    assert change <= 1e-9, f"{name} moved by {change:.1e}: {first} and {second}"
