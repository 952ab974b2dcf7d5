"""The numbers that each estimator returns, for comparisons of frameworks and coordinates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import invariant_sharpness as ish
from invariant_sharpness.estimators.hutchinson import hutch_plus_plus_trace, hutchinson_trace
from invariant_sharpness.estimators.lanczos import eigenpairs
from invariant_sharpness.estimators.lanczos_quadrature import spectral_density
from invariant_sharpness.estimators.leave_one_out_diagonal import xdiag
from invariant_sharpness.estimators.leave_one_out_trace import xtrace
from invariant_sharpness.estimators.target_error import hutchinson_trace_within


def value_and_error(estimate: ish.Estimate) -> Any:
    return np.array([estimate.value, estimate.standard_error])


def diagonal(oracle: ish.CurvatureOracle) -> Any:
    groups = xdiag(oracle, num_matvecs=10, seed=3).groups.values()
    return np.concatenate([np.ravel(a) for group in groups for a in (group.values, group.parts)])


NUMBERS: dict[str, Callable[[ish.CurvatureOracle], Any]] = {
    "Hutchinson": lambda o: value_and_error(hutchinson_trace(o, num_matvecs=8, seed=3)),
    "Hutch++": lambda o: value_and_error(hutch_plus_plus_trace(o, num_matvecs=12, seed=3)),
    "XTrace": lambda o: value_and_error(xtrace(o, num_matvecs=12, seed=3)),
    "two stages": lambda o: value_and_error(hutchinson_trace_within(o, relative_error=0.2, seed=3)),
    "XDiag": diagonal,
    "eigenvalues": lambda o: np.array([p.value for p in eigenpairs(o, largest=3, smallest=1, seed=3).largest]),
    "nodes and weights": lambda o: np.ravel(spectral_density(o, probes=2, steps=5, seed=3).rules),
}
