"""Run checks one after the other, and keep what each of them says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from invariant_sharpness.testing.results import (
    CheckExpectedError,
    CheckFailedError,
    CheckResult,
    CheckSkippedError,
    Figures,
)

OnFail = Literal["raise", "return"]
Run = Callable[[], Figures]
"""A check of something given: returns what it measured, or raises one of the three errors of a check."""


def results_of(checks: Mapping[str, Run], on_fail: OnFail) -> list[CheckResult]:
    """What every check says, in their order; with ``on_fail="raise"``, until the first failure.

    Raises
    ------
    CheckFailedError
        With ``on_fail="raise"``, at the first check that fails; names the check.
    ValueError
        If ``on_fail`` is neither ``"raise"`` nor ``"return"``.
    """
    if on_fail not in ("raise", "return"):
        msg = f'on_fail={on_fail!r}, but it is "raise" or "return"'
        raise ValueError(msg)
    results = []
    for name, check in checks.items():
        try:
            results.append(CheckResult(name, "passed", figures=check()))
        except CheckSkippedError as reason:
            results.append(CheckResult(name, "skipped", str(reason)))
        except CheckExpectedError as failure:
            results.append(CheckResult(name, "failed as expected", str(failure), failure.figures))
        except CheckFailedError as failure:
            if on_fail == "raise":
                msg = f"{name}: {failure}"
                raise CheckFailedError(msg, failure.figures) from failure
            results.append(CheckResult(name, "failed", str(failure), failure.figures))
    return results


def blamed_on(culprit: str, check: Run) -> Run:
    """The check, which whatever else raises has failed."""

    def run() -> Figures:
        try:
            return check()
        except (CheckSkippedError, CheckFailedError):
            raise
        except Exception as error:
            msg = f"{culprit} raised {type(error).__name__}: {error}"
            raise CheckFailedError(msg) from error

    return run
