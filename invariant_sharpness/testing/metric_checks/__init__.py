"""What is checked of a metric, one idea per file. Each check is a function of a :class:`Trial`."""

from __future__ import annotations

from invariant_sharpness.testing.metric_checks.batches import check_batch_order, check_batch_size
from invariant_sharpness.testing.metric_checks.counterexample import check_counterexample
from invariant_sharpness.testing.metric_checks.determinism import check_determinism
from invariant_sharpness.testing.metric_checks.extremes import check_extreme_scales
from invariant_sharpness.testing.metric_checks.frameworks import check_same_value
from invariant_sharpness.testing.metric_checks.function import check_function_preserved
from invariant_sharpness.testing.metric_checks.invariance import check_invariance
from invariant_sharpness.testing.metric_checks.permutation import check_permutation
from invariant_sharpness.testing.metric_checks.sign import check_nonnegative
from invariant_sharpness.testing.metric_checks.trial import Trial
from invariant_sharpness.testing.metric_checks.untouched import check_state_restored

__all__ = [
    "Trial",
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
]
