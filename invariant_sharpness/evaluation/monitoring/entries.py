"""One entry of a monitor: what was measured at one step, or why nothing was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any

from invariant_sharpness.results.estimate import Bracket, Estimate, GroupEstimate

COLUMNS = ("step", "run", "learning_rate", "threshold", "probe_loss", "seconds")
"""What rows say of their entry; what the user logs comes behind."""

VALUES = ("metric", "level", "group", "value", "standard_error", "method", "error")
"""What rows say of one value."""

NUMBERS = ("learning_rate", "threshold", "probe_loss", "seconds", "value", "standard_error")


@dataclass(frozen=True, slots=True)
class Entry:
    """What was measured at one step of a training run.

    Parameters
    ----------
    step
        The number of the step.
    run
        Which start of the monitor it belongs to: 0 for the first, one more each time that the same file is gone on with.
    probe_loss
        Mean loss on the probe data; NaN where there is none.
    estimates
        What was measured, by the name of the metric.
    errors
        Why the other metrics have no value, by name.
    learning_rate
        As it was given, or that of the optimizer.
    threshold
        The largest preconditioned curvature at which the optimizer is stable, see :attr:`OptimizerState.threshold`; None without an optimizer.
    seconds
        Duration of the measurement.
    logged
        What else the loop gave.
    signature
        What the values depend on beside the model, see :attr:`Report.signature`.

    Examples
    --------
    >>> import invariant_sharpness as ish
    >>> entry = Entry(3, 0, 0.5, {"hessian_trace": ish.Estimate("hessian_trace", 2.0, "exact")})
    >>> Entry.from_dict(entry.to_dict()) == entry
    True
    """

    step: int
    run: int
    probe_loss: float
    estimates: Mapping[str, Estimate]
    errors: Mapping[str, str] = field(default_factory=dict)
    learning_rate: float | None = None
    threshold: float | None = None
    seconds: float = 0.0
    logged: Mapping[str, Any] = field(default_factory=dict)
    signature: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and dictionaries."""
        return {
            "step": self.step,
            "run": self.run,
            "probe_loss": self.probe_loss,
            "metrics": {name: estimate.to_dict() for name, estimate in self.estimates.items()},
            "errors": dict(self.errors),
            "learning_rate": self.learning_rate,
            "threshold": self.threshold,
            "seconds": self.seconds,
            "logged": dict(self.logged),
            "signature": self.signature,
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Entry:
        """Return the entry of :meth:`to_dict`; null, which JSON has in the place of a loss that is not finite, becomes NaN."""
        own = {name: value for name, value in told.items() if name != "metrics"}
        estimates = {name: _estimate(one) for name, one in told["metrics"].items()}
        return cls(**{**own, "probe_loss": _number(told["probe_loss"]), "estimates": estimates})

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each metric, of the level ``"metric"``, one for each contribution of a group, and one for each error."""
        common = {name: getattr(self, name) for name in COLUMNS} | dict(self.logged)
        for name, estimate in self.estimates.items():
            whole = {"value": estimate.value, "standard_error": estimate.standard_error, "method": estimate.method}
            yield common | {"metric": name, "level": "metric", "group": "total"} | whole
            for group, part in estimate.per_group.items():
                share = {"value": part.value, "standard_error": part.standard_error, "method": part.method}
                yield common | {"metric": name, "level": "group", "group": group} | share
        for name, words in self.errors.items():
            yield common | {"metric": name, "level": "metric", "group": "total", "error": words}


def _estimate(told: Mapping[str, Any]) -> Estimate:
    bracket = told["bracket"]
    groups = {
        name: GroupEstimate(**{**part, "value": _number(part["value"])}) for name, part in told["per_group"].items()
    }
    ends = None if bracket is None else Bracket(_number(bracket[0], -inf), _number(bracket[1], inf))
    changed = {"value": _number(told["value"]), "notes": tuple(told["notes"]), "per_group": groups, "bracket": ends}
    return Estimate(**{**told, **changed})


def _number(value: float | None, otherwise: float = nan) -> float:
    return otherwise if value is None else value
