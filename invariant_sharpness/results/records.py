"""One metric before and after one transformation: what a certificate is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

Verdict = Literal["holds", "CLAIM FAILS", "moves", "stays", "no symmetry", "not measured"]


@dataclass(frozen=True, slots=True)
class Record:
    """One metric before and after one transformation.

    Parameters
    ----------
    metric
        Name of the metric.
    kind
        Kind of the symmetry, which says by which invariances it is covered.
    move
        The transformation of the symmetry, in words.
    claimed
        Whether the metric declares that it leaves the value alone.
    before, after
        Values of the metric, with the same seed.
    tolerance
        The relative change that precision and the metric's own iterations explain.
    loss_change
        Relative change of the loss.
    is_symmetry
        Whether rounding explains the change of the loss.
    reason
        Why there is no value, if there is none.
    """

    metric: str
    kind: str
    move: str
    claimed: bool
    before: float
    after: float
    tolerance: float
    loss_change: float
    is_symmetry: bool
    reason: str = ""

    @property
    def change(self) -> float:
        """Relative change of the metric: the difference over the larger of both values."""
        difference = abs(self.after - self.before)
        return difference / max(abs(self.before), abs(self.after)) if difference else 0.0

    @property
    def factor(self) -> float:
        """The value afterwards over that before."""
        return self.after / self.before if self.before else float("inf")

    @property
    def verdict(self) -> Verdict:
        """What the numbers say about the invariance."""
        if self.reason:
            return "not measured"
        if not self.is_symmetry:
            return "no symmetry"
        if self.change <= self.tolerance:
            return "holds" if self.claimed else "stays"
        return "CLAIM FAILS" if self.claimed else "moves"

    def to_dict(self) -> dict[str, Any]:
        """Return everything in plain Python types."""
        return {
            "metric": self.metric,
            "symmetry": self.kind,
            "move": self.move,
            "claimed": self.claimed,
            "before": self.before,
            "after": self.after,
            "change": self.change,
            "tolerance": self.tolerance,
            "loss_change": self.loss_change,
            "verdict": self.verdict,
            "reason": self.reason,
        }


class Records(Protocol):
    """What :class:`invariant_sharpness.Certificate` offers to pictures."""

    def worst(self) -> list[Record]:
        """For each metric and kind of symmetry the record with the largest change."""
        ...


Finding = Record
"""The old name of :class:`Record`."""
