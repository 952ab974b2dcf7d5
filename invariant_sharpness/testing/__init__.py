"""Checks that users run on their own metrics and oracles: plain functions, which need no test framework."""

from __future__ import annotations

from invariant_sharpness.testing.additivity import check_additivity
from invariant_sharpness.testing.metric_suite import check_metric
from invariant_sharpness.testing.oracle_checks import CHECKS, check_oracle
from invariant_sharpness.testing.parametrization import parametrize_with_checks
from invariant_sharpness.testing.purity import check_model_untouched
from invariant_sharpness.testing.results import CheckFailedError, CheckResult, CheckSkippedError
from invariant_sharpness.testing.specimens import Specimen

__all__ = [
    "CHECKS",
    "CheckFailedError",
    "CheckResult",
    "CheckSkippedError",
    "Specimen",
    "check_additivity",
    "check_metric",
    "check_model_untouched",
    "check_oracle",
    "parametrize_with_checks",
]
