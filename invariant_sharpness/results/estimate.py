"""What a metric returns: a number, how wrong it may be, and how it was obtained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import inf
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

from scipy.special import stdtrit

from invariant_sharpness.errors import ArgumentError

_NO_GROUPS: Mapping[str, GroupEstimate] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class GroupEstimate:
    """The part of a metric that one parameter group (or one layer) contributes.

    Parameters
    ----------
    value
        The contribution; those of a metric that is a sum add up to its value.
    method
        How it was obtained: ``"exact"``, ``"exact (columns)"``, ``"exact (units)"``, ``"curvature propagation"``, ``"layer draws"``, ``"probes"``,
        ``"residual probes"``, ``"XDiag"`` or ``"sampled outputs"``.
    standard_error
        The standard error of a sampled value; None if it is exact.
    note
        What a reader should know, such as a minimum that is not attained.

    Examples
    --------
    >>> import invariant_sharpness as ish
    >>> parts = {"first.weight": ish.GroupEstimate(1.0, "exact"), "last.weight": ish.GroupEstimate(2.0, "exact")}
    >>> sum(part.value for part in parts.values())
    3.0
    """

    value: float
    method: str
    standard_error: float | None = None
    note: str = ""


class Bracket(NamedTuple):
    """Two values of which the first is too small in expectation and the second too large."""

    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """The value of a metric, with its error.

    Parameters
    ----------
    name
        Name of the metric.
    value
        Its value.
    method
        How it was obtained, in words.
    standard_error
        The standard error of a stochastic value; None if it is exact.
    certificate
        The relative gap, see :attr:`relative_gap`: proven relative error of a value that is not stochastic: the duality gap of (17), or the relative
        residual of an eigenvalue. Of a lower bound of a maximum: what the first-order condition leaves open, relative to
        it. None if there is only rounding.
    converged
        Whether every iteration reached its tolerance.
    per_group
        Contributions of the parameter groups, where the metric is a sum over them.
    notes
        Warnings, in words.
    degrees_of_freedom
        Number of degrees of freedom of the standard error, for intervals.
    bracket
        What is below and above the true value in expectation, where sampling or a quadrature leave room; both sides
        scatter with the standard error. A maximum that was searched for has its value below and infinity above.

    Examples
    --------
    >>> import invariant_sharpness as ish
    >>> estimate = ish.Estimate("trace", 3.0, "64 probes", standard_error=0.5, degrees_of_freedom=63)
    >>> print(estimate)
    trace = 3 (± 0.5; 64 probes)
    >>> [round(end, 2) for end in estimate.interval(0.95)]
    [2.0, 4.0]
    """

    name: str
    value: float
    method: str
    standard_error: float | None = None
    certificate: float | None = None
    converged: bool = True
    per_group: Mapping[str, GroupEstimate] = field(default_factory=lambda: _NO_GROUPS)
    notes: tuple[str, ...] = ()
    degrees_of_freedom: int | None = None
    bracket: Bracket | None = None

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.name} = {self.value:.6g} ({self.error_text()}; {self.method})"

    @property
    def relative_gap(self) -> float | None:
        """The proven relative error of a value that is not stochastic; the field ``certificate`` is its old name."""
        return self.certificate

    @property
    def kind(self) -> Literal["exact", "iterated", "sampled", "lower bound"]:
        """Where the error comes from: rounding alone, an iteration with a relative gap, sampling, or a search for a maximum."""
        if self.standard_error is not None:
            return "sampled"
        if self.bracket is not None and self.bracket.upper == inf:
            return "lower bound"
        return "exact" if self.certificate is None else "iterated"

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Compute where the true value lies with this probability, from below the lower side of the bracket to above the upper.

        The standard error counts with the quantile of Student's t. Where nothing is sampled it is the bracket itself, and a
        single number for a value that is exact.

        Parameters
        ----------
        level
            The probability, between 0 and 1.

        Returns
        -------
        tuple of float
            Both ends.

        Raises
        ------
        ArgumentError
            If ``level`` is not between 0 and 1.
        """
        if not (isinstance(level, Real) and 0 < level < 1):
            msg = f"level={level!r}, but a probability is a number between 0 and 1"
            raise ArgumentError(msg)
        lower, upper = self.bracket or (self.value, self.value)
        if self.standard_error is None:
            return lower, upper
        reach = float(stdtrit(self.degrees_of_freedom or inf, (1 + level) / 2)) * self.standard_error
        return lower - reach, upper + reach

    def error_text(self) -> str:
        """Write the error in a few characters, for tables: the ends of the interval, where the bracket is wider than the scatter."""
        if self.standard_error is not None:
            error = self._interval_text() if self._is_bracketed() else f"± {self.standard_error:.2g}"
        elif self.kind == "lower bound":
            error = "lower bound"
        elif self.certificate:
            error = f"rel. ≤ {self.certificate:.0e}"
        else:
            error = "exact"
        return error if self.converged else f"{error}, NOT CONVERGED"

    def _is_bracketed(self) -> bool:
        """Whether the sides of a finite bracket are further apart than what the standard error says."""
        if self.bracket is None or self.standard_error is None:
            return False
        return 2 * self.standard_error < self.bracket.upper - self.bracket.lower < inf

    def _interval_text(self) -> str:
        """Write both ends; a value of which more than half can be noise says so."""
        low, high = self.interval()
        noise = ", MOSTLY NOISE" if low < self.value / 2 else ""
        return f"95 %: {low:.3g} to {high:.3g}{noise}"

    def _repr_html_(self) -> str:
        """Show the value in notebooks."""
        return f"<code>{escape(str(self))}</code>"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and dictionaries."""
        return {
            "name": self.name,
            "value": self.value,
            "standard_error": self.standard_error,
            "degrees_of_freedom": self.degrees_of_freedom,
            "bracket": None if self.bracket is None else [self.bracket.lower, self.bracket.upper],
            "certificate": self.certificate,
            "converged": self.converged,
            "method": self.method,
            "notes": list(self.notes),
            "per_group": {
                name: {"value": g.value, "standard_error": g.standard_error, "method": g.method, "note": g.note}
                for name, g in self.per_group.items()
            },
        }


class Counts(Protocol):
    """How many draws, probes and samples of the outputs there are."""

    @property
    def draws(self) -> int: ...
    @property
    def probes(self) -> int: ...
    @property
    def samples(self) -> int: ...


def methods_in_words(methods: Sequence[str], probes: int | Counts) -> str:
    """Say how several groups were obtained: ``"exact"``, ``"64 probes"``, or ``"4 groups exact, 2 groups by 64 probes"``."""
    counts = Counter(methods)
    words = _for_products(probes) if isinstance(probes, int | Integral) else _by_counts(probes)
    if len(counts) < 2:
        return "".join(words.get(method, method) for method in counts)
    texts = [(count, f"by {words[method]}" if method in words else method) for method, count in sorted(counts.items())]
    return ", ".join(f"{count} {'group' if count == 1 else 'groups'} {text}" for count, text in texts)


def _for_products(probes: int | Integral) -> dict[str, str]:
    return {
        "probes": f"{probes} probes",
        "residual probes": f"{max(int(probes) // 2, 4)} probes of the residual part",
        "layer draws": f"draws at layers for {probes} products",
        "curvature propagation": f"draws at operations for {probes} products",
        "XDiag": f"XDiag of {probes} products",
        "sampled outputs": f"{probes} samples of the outputs",
    }


def _by_counts(counts: Counts) -> dict[str, str]:
    return {
        "probes": f"{counts.probes} probes",
        "residual probes": f"{counts.probes} probes of the residual part",
        "layer draws": f"{counts.draws} draws at layers",
        "curvature propagation": f"{counts.draws} draws at operations",
        "sampled outputs": f"{counts.samples} samples of the outputs",
    }
