"""The checks of a metric, each a function of a :class:`Case`: of its values, of its invariances, and of data and frameworks."""

from __future__ import annotations

from invariant_sharpness.testing.metric_checks.case import Case
from invariant_sharpness.testing.metric_checks.data import (
    REFERENCE,
    check_batch_order,
    check_batch_size,
    check_same_value,
    compared_frameworks,
)
from invariant_sharpness.testing.metric_checks.invariance import (
    check_counterexample,
    check_extreme_scales,
    check_function_preserved,
    check_invariance,
    check_permutation,
)
from invariant_sharpness.testing.metric_checks.values import check_determinism, check_nonnegative, check_state_restored

__all__ = [
    "REFERENCE",
    "Case",
    "check_batch_order",
    "check_batch_size",
    "check_counterexample",
    "check_determinism",
    "check_extreme_scales",
    "check_function_preserved",
    "check_invariance",
    "check_nonnegative",
    "check_permutation",
    "check_same_value",
    "check_state_restored",
    "compared_frameworks",
]
