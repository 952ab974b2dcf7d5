"""Checks that users run on their own metrics and oracles: plain functions, which need no test framework.

- :func:`check_oracle` compares everything that an oracle says with everything else that it says; :func:`check_additivity` and
  :func:`check_model_untouched` see what cannot be seen through an oracle alone; :func:`check_engine` sees what holds an engine to its contract.
- :func:`check_metric` tests whether a metric is what its author says, on a :class:`Problem` or on networks of the library;
  :func:`parametrize_with_checks` makes tests of pytest of it.
- ``invariant_sharpness.testing.strategies`` draws networks and symmetries for Hypothesis.
"""

from __future__ import annotations

from invariant_sharpness.testing.additivity import check_additivity
from invariant_sharpness.testing.engines import check_engine
from invariant_sharpness.testing.metric_suite import check_metric, parametrize_with_checks
from invariant_sharpness.testing.oracle_checks import CHECKS, check_oracle
from invariant_sharpness.testing.problems import Problem
from invariant_sharpness.testing.purity import check_model_untouched
from invariant_sharpness.testing.results import CheckFailedError, CheckResult, CheckSkippedError

Specimen = Problem
"""The name of :class:`Problem` in version 0.1."""

__all__ = [
    "CHECKS",
    "CheckFailedError",
    "CheckResult",
    "CheckSkippedError",
    "Problem",
    "Specimen",
    "check_additivity",
    "check_engine",
    "check_metric",
    "check_model_untouched",
    "check_oracle",
    "parametrize_with_checks",
]
