"""The metrics that claim to survive a rescaling of hidden units, with their options."""

from __future__ import annotations

import invariant_sharpness as ish

USUAL = tuple(
    name
    for name, metric in ish.METRICS.items()
    if metric.default or name in ("hessian_frobenius_norm", "local_regret", "average_adaptive_sharpness")
)
"""Metrics that together ask an oracle for all that it can do; all others are made of the same."""

INVARIANT = {
    "normalized_sharpness": ish.normalized_sharpness,
    "normalized_sharpness, biases as a column": lambda oracle: ish.normalized_sharpness(oracle, biases="column"),
    "normalized_sharpness, biases one by one": lambda oracle: ish.normalized_sharpness(oracle, biases="parameterwise"),
    "parameter_normalized_sharpness": ish.parameter_normalized_sharpness,
    "parameter_normalized_sharpness, all parameters": lambda oracle: ish.parameter_normalized_sharpness(
        oracle, biases="parameterwise"
    ),
    "fisher_rao_norm, diagonal": ish.fisher_rao_norm,
    "fisher_rao_norm, full": lambda oracle: ish.fisher_rao_norm(oracle, form="full"),
}


def relative_change(before: float, after: float) -> float:
    return 0.0 if before == after else abs(after - before) / max(abs(before), abs(after))
