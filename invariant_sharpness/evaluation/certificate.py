"""A certificate: what the symmetries of a network do to the metrics that are said to survive them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import isfinite
from typing import TYPE_CHECKING, Any, overload

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from invariant_sharpness.results.export import data_frame, strict_json
from invariant_sharpness.results.records import Finding, Verdict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_COLUMNS = (
    "metric",
    "symmetry",
    "move",
    "claimed",
    "before",
    "after",
    "change",
    "tolerance",
    "loss_change",
    "verdict",
    "reason",
)

_MEANING: dict[Verdict, str] = {
    "holds": "holds",
    "CLAIM FAILS": "CLAIM FAILS",
    "moves": "moves",
    "stays": "stays, unclaimed",
    "no symmetry": "the loss moved",
    "not measured": "not measured",
}


@dataclass(frozen=True, slots=True)
class Certificate(Sequence[Finding]):
    """What :func:`invariant_sharpness.certify` returns: one finding for each metric and move. Prints as a table.

    Parameters
    ----------
    findings
        In the order of the metrics.
    symmetries
        What was applied, in words.
    oracle
        Type of the oracle.
    seed
        Of the moves and the metrics.
    """

    findings: tuple[Finding, ...]
    symmetries: str
    oracle: str
    seed: int

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Finding, ...]: ...
    def __getitem__(self, index: int | slice) -> Finding | tuple[Finding, ...]:
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=118, highlight=False, force_jupyter=False).print(self.table())
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())

    @property
    def failed(self) -> list[Finding]:
        """The claims that do not hold, and the moves that were no symmetries."""
        return [finding for finding in self.findings if finding.verdict in ("CLAIM FAILS", "no symmetry")]

    def worst(self) -> list[Finding]:
        """For each metric and kind of symmetry the finding with the largest change; what failed comes before what did not."""
        worst: dict[tuple[str, str], Finding] = {}
        for finding in self.findings:
            key = (finding.metric, finding.kind)
            if key not in worst or _severity(finding) > _severity(worst[key]):
                worst[key] = finding
        return list(worst.values())

    def table(self) -> Table:
        """The worst of each metric and symmetry, as a :mod:`rich` table."""
        table = Table(title=escape(self.symmetries), title_justify="left")
        for heading in ("metric", "symmetry", "claimed", "moved by", "under", "verdict"):
            table.add_column(heading, no_wrap=heading != "verdict")
        for finding in self.worst():
            claimed, verdict = "yes" if finding.claimed else "no", finding.reason or _MEANING[finding.verdict]
            style = "bold red" if finding.verdict in ("CLAIM FAILS", "no symmetry") else ""
            kind = finding.kind.replace("_", "/")
            table.add_row(
                escape(finding.metric), kind, claimed, _moved(finding), finding.move, escape(verdict), style=style
            )
        return table

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and dictionaries, with what is needed to certify again."""
        return {
            "version": version("invariant-sharpness"),
            "oracle": self.oracle,
            "seed": self.seed,
            "symmetries": self.symmetries,
            "failed": len(self.failed),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """JSON text of :meth:`to_dict`, with null for a number that is not finite."""
        return strict_json(self.to_dict(), indent=indent)

    def to_frame(self) -> pd.DataFrame:
        """A pandas data frame with one row for each finding.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        return data_frame([finding.to_dict() for finding in self.findings], _COLUMNS, what="Certificate.to_frame")

    def plot(self, axes: Axes | None = None) -> Axes:
        """How far each metric moved, on a logarithmic scale; takes and returns matplotlib axes."""
        from invariant_sharpness.plotting import plot_certificate

        return plot_certificate(self, axes)


def _severity(finding: Finding) -> tuple[bool, float]:
    change = finding.change if isfinite(finding.change) else float("inf")
    return finding.verdict in ("CLAIM FAILS", "no symmetry"), change


def _moved(finding: Finding) -> str:
    """The factor of what moved, the relative change of what hardly did."""
    if finding.reason:
        return "-"
    if finding.change <= max(finding.tolerance, 1e-2):
        return f"{finding.change:.1e}" if finding.change else "nothing"
    return f"x {finding.factor:.3g}"
