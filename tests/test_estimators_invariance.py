"""In equivariant coordinates every draw and every Lanczos step stays the same when a network is rescaled, and in other frameworks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
import numpy_problem
from invariant_sharpness.coordinates import balanced, magnitudes
from invariant_sharpness.estimators.hutchinson import hutch_plus_plus_trace, hutchinson_trace, hutchinson_trace_within
from invariant_sharpness.estimators.lanczos import eigenpairs
from invariant_sharpness.estimators.lanczos_quadrature import spectral_density
from invariant_sharpness.estimators.leave_one_out_diagonal import xdiag
from invariant_sharpness.estimators.leave_one_out_trace import xtrace
from invariant_sharpness.symmetries import chain_rescalings, unit_count


def value_and_error(estimate: ish.Estimate) -> Any:
    return np.array([estimate.value, estimate.standard_error])


def diagonal(oracle: ish.CurvatureOracle) -> Any:
    groups = xdiag(oracle, products=10, seed=3).groups.values()
    return np.concatenate([np.ravel(a) for group in groups for a in (group.values, group.parts)])


NUMBERS: dict[str, Callable[[ish.CurvatureOracle], Any]] = {
    "Hutchinson": lambda o: value_and_error(hutchinson_trace(o, products=8, seed=3)),
    "Hutch++": lambda o: value_and_error(hutch_plus_plus_trace(o, products=12, seed=3)),
    "XTrace": lambda o: value_and_error(xtrace(o, products=12, seed=3)),
    "two stages": lambda o: value_and_error(hutchinson_trace_within(o, relative_error=0.2, seed=3)),
    "XDiag": diagonal,
    "eigenvalues": lambda o: np.array([p.value for p in eigenpairs(o, largest=3, smallest=1, seed=3).largest]),
    "nodes and weights": lambda o: np.ravel(spectral_density(o, probes=2, steps=5, seed=3).rules),
}


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
