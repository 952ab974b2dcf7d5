"""What a check says: passed, failed or skipped, with the figures that it measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from invariant_sharpness.errors import InvariantSharpnessError

Figures = Mapping[str, float]
"""What a check measured, by name."""

Status = Literal["passed", "failed", "skipped", "failed as expected"]


class CheckFailedError(InvariantSharpnessError, AssertionError):
    """An oracle or a metric does not do what a check asks for: what is wrong, by how much, and what to do.

    Parameters
    ----------
    message
        In words.
    figures
        What was measured.
    """

    def __init__(self, message: str, figures: Figures | None = None) -> None:
        super().__init__(message)
        self.figures = dict(figures or {})


class CheckExpectedError(CheckFailedError):
    """A check failed that was expected to: says why it was, and what is wrong."""


class CheckSkippedError(InvariantSharpnessError):
    """A check does not apply to what it is given, or could not see anything at this point: says why."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check. Prints as one line.

    Parameters
    ----------
    check
        Name of the check, such as ``"check_gradient"``.
    status
        ``"passed"``, ``"failed"``, ``"skipped"``, or ``"failed as expected"``.
    message
        What is wrong and what to do, why the failure was expected, or why the check was skipped; empty if it passed.
    figures
        What was measured, such as relative errors.
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
        """Everything in plain Python types."""
        return {
            "check": self.check,
            "status": self.status,
            "message": self.message,
            "figures": dict(self.figures),
        }


def figures_in_words(figures: Figures) -> str:
    """``name value`` pairs in one line."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in figures.items())
