"""Checks that users and adapter authors run on their own oracles: plain functions, which need no test framework."""

from __future__ import annotations

from invariant_sharpness.testing.additivity import check_additivity
from invariant_sharpness.testing.oracle_checks import CHECKS, check_oracle
from invariant_sharpness.testing.results import CheckFailedError, CheckResult, CheckSkippedError
from invariant_sharpness.testing.untouched import check_model_untouched

__all__ = [
    "CHECKS",
    "CheckFailedError",
    "CheckResult",
    "CheckSkippedError",
    "check_additivity",
    "check_model_untouched",
    "check_oracle",
]
