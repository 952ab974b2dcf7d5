"""What a check says: the errors that it raises, its result in one line, and the results of many checks.

A check returns the figures that it measured, or raises one of three errors. :func:`results_of` runs checks one after the
other and turns each ending into a :class:`CheckResult`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from invariant_sharpness.errors import ArgumentError, InvariantSharpnessError

Figures = Mapping[str, float]
"""What a check measured, by name."""

Status = Literal["passed", "failed", "skipped", "failed as expected"]
OnFail = Literal["raise", "return"]

Run = Callable[[], Figures]
"""A check that knows what it checks: returns its figures, or raises one of the three errors."""


class CheckFailedError(InvariantSharpnessError, AssertionError):
    """A check failed: the message says what is wrong, by how much, and what to do.

    Parameters
    ----------
    message
        The finding in words.
    figures
        What was measured, by name, such as a relative error.

    Examples
    --------
    >>> from invariant_sharpness.testing import CheckFailedError
    >>> CheckFailedError("the gradient is 1 % too large", {"relative_error": 0.01}).figures
    {'relative_error': 0.01}
    """

    def __init__(self, message: str, figures: Figures | None = None) -> None:
        super().__init__(message)
        self.figures = dict(figures or {})


class CheckExpectedError(CheckFailedError):
    """A check failed that was expected to: the message says why it was, and what is wrong."""


class CheckSkippedError(InvariantSharpnessError):
    """A check does not apply to what it is given, or could not see anything at this point: the message says why.

    Examples
    --------
    >>> from invariant_sharpness.testing import CheckSkippedError
    >>> print(CheckSkippedError("the oracle does not show its outputs"))
    the oracle does not show its outputs
    """


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one check ended. Prints as one line.

    Parameters
    ----------
    check
        The name of the check, such as ``"check_gradient"``.
    status
        ``"passed"``, ``"failed"``, ``"skipped"``, or ``"failed as expected"``.
    message
        What is wrong and what to do, why the failure was expected, or why the check was skipped; empty if it passed.
    figures
        What was measured, such as relative errors.

    Examples
    --------
    >>> from invariant_sharpness.testing import CheckResult
    >>> print(CheckResult("check_symmetry", "passed", figures={"asymmetry": 2.5e-16}))
    check_symmetry passed (asymmetry 2.5e-16)
    """

    check: str
    status: Status
    message: str = ""
    figures: Figures = field(default_factory=dict)

    def __str__(self) -> str:
        measured = f" ({figures_in_words(self.figures)})" if self.figures else ""
        reason = f": {' '.join(self.message.split())}" if self.message else ""
        return f"{self.check} {self.status}{measured}{reason}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything in plain Python types."""
        return {
            "check": self.check,
            "status": self.status,
            "message": self.message,
            "figures": dict(self.figures),
        }


def figures_in_words(figures: Figures) -> str:
    """Return ``name value`` pairs in one line."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in figures.items())


def results_of(checks: Mapping[str, Run], on_fail: OnFail) -> list[CheckResult]:
    """Run the checks in their order; with ``on_fail="raise"``, until the first failure.

    Raises
    ------
    CheckFailedError
        With ``on_fail="raise"``, at the first check that fails; names the check.
    ArgumentError
        If ``on_fail`` is neither ``"raise"`` nor ``"return"``.
    """
    if on_fail not in ("raise", "return"):
        msg = f'on_fail={on_fail!r}, but it is "raise" or "return"'
        raise ArgumentError(msg)
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


def caught(check: Run, what: str) -> Run:
    """Wrap a check so that any other exception is a failure of what it checks, such as ``"the oracle"``."""

    def run() -> Figures:
        try:
            return check()
        except (CheckSkippedError, CheckFailedError):
            raise
        except Exception as error:
            msg = f"{what} raised {type(error).__name__}: {error}"
            raise CheckFailedError(msg) from error

    return run


def as_expected(checks: Mapping[str, Run], reasons: Mapping[str, str]) -> dict[str, Run]:
    """Wrap the checks that have a reason to fail, so that they fail if they pass.

    Raises
    ------
    ArgumentError
        If there is no check of a name, or a reason is empty.
    """
    if unknown := [name for name in reasons if name not in checks]:
        msg = f"there is no check {', '.join(map(repr, unknown))} of this metric; its checks are {', '.join(checks)}"
        raise ArgumentError(msg)
    if silent := [name for name, reason in reasons.items() if not reason.strip()]:
        msg = f"{', '.join(silent)} is expected to fail without a reason: say why, for those who read the results"
        raise ArgumentError(msg)
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
