"""Failures that are expected, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping

from invariant_sharpness.testing.results import CheckExpectedError, CheckFailedError, Figures
from invariant_sharpness.testing.running import Run


def as_expected(checks: Mapping[str, Run], reasons: Mapping[str, str]) -> dict[str, Run]:
    """The checks, of which those with a reason have to fail.

    Raises
    ------
    ValueError
        If there is no check of a name, or a reason is empty.
    """
    if unknown := [name for name in reasons if name not in checks]:
        msg = f"there is no check {', '.join(map(repr, unknown))} of this metric; its checks are {', '.join(checks)}"
        raise ValueError(msg)
    if silent := [name for name, reason in reasons.items() if not reason.strip()]:
        msg = f"{', '.join(silent)} is expected to fail without a reason: say why, for those who read the results"
        raise ValueError(msg)
    return {name: _failing(check, reasons[name]) if name in reasons else check for name, check in checks.items()}


def _failing(check: Run, reason: str) -> Run:
    def run() -> Figures:
        try:
            figures = check()
        except CheckFailedError as failure:
            msg = f"{reason} ({failure})"
            raise CheckExpectedError(msg, failure.figures) from failure
        msg = f"it was expected to fail ({reason}), but it passes: take it out of expected_failures"
        raise CheckFailedError(msg, figures)

    return run
