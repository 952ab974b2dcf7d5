"""Sharpness is not negative."""

from __future__ import annotations

from invariant_sharpness.testing.metric_checks.trial import Trial
from invariant_sharpness.testing.results import CheckFailedError, Figures

_STANDARD_ERRORS = 5.0


def check_nonnegative(trial: Trial) -> Figures:
    """The value is zero or more; a sampled one within its standard error. Cost: one value for each network."""
    values = []
    for specimen in trial.specimens:
        estimate = trial.value(specimen.oracle)
        values.append(estimate.value)
        if not estimate.value >= -_STANDARD_ERRORS * (estimate.standard_error or 0.0):
            msg = (
                f"{trial.name} is {estimate.value:.6g} on {specimen}, but a sharpness is zero or more: look for a wrong sign. If it can be negative, "
                f"such as a trace away from a minimum, say so in expected_failures"
            )
            raise CheckFailedError(msg, {"value": estimate.value})
    return {"least_value": min(values)}
