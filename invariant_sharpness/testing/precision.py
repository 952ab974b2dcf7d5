"""A check that single precision cannot decide is decided by a copy of the model in double precision, where there can be one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps

import numpy as np

from invariant_sharpness.protocol import (
    CurvatureOracle,
    DoublePrecisionOracle,
    capability,
    innermost,
    machine_epsilon,
)
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures

Check = Callable[[CurvatureOracle, int], Figures]
"""A check of an oracle with a seed: returns what it measured, or raises :class:`CheckFailedError` or :class:`CheckSkippedError`."""


def decided_in_double_precision(check: Check) -> Check:
    """Wrap a check by differences, so that the copy decides where the oracle itself fails, or cannot be judged in every group.

    In single precision, differences have steps that cross kinks, and rounding that hides small errors. A copy that cannot be made,
    or on which the check ends in any other way, decides nothing.
    """

    @wraps(check)
    def decided(oracle: CurvatureOracle, seed: int) -> Figures:
        single = _ending(check, oracle, seed)
        if isinstance(single, Mapping) and "groups_not_judged" not in single:
            return single
        double = _ending_of_copy(check, oracle, seed)
        if isinstance(double, CheckFailedError):
            msg = f"{double}. This is what a copy of the model in double precision shows"
            raise CheckFailedError(msg, double.figures)
        ending = single if double is None or isinstance(double, CheckSkippedError) else double
        if isinstance(ending, Mapping):
            return ending
        raise ending

    return decided


def _ending(check: Check, oracle: CurvatureOracle, seed: int) -> Figures | CheckFailedError | CheckSkippedError:
    try:
        return check(oracle, seed)
    except (CheckFailedError, CheckSkippedError) as ending:
        return ending


def _ending_of_copy(
    check: Check, oracle: CurvatureOracle, seed: int
) -> Figures | CheckFailedError | CheckSkippedError | None:
    """Return how the check of the copy ends; None if there is no copy, none is needed, or it does not run."""
    able = capability(oracle, DoublePrecisionOracle)
    if able is None or innermost(oracle) is not oracle or machine_epsilon(oracle) <= np.finfo(np.float64).eps:
        return None
    try:
        with able.in_double_precision() as copy:
            return _ending(check, copy, seed)
    except Exception:  # a model may be unable to compute in double precision in any way
        return None
