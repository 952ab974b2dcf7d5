"""A report: the estimates of one measurement, as a table, dictionary, JSON, CSV or data frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from os import PathLike
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from invariant_sharpness.evaluation.conditions import Conditions
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.results.export import csv_text, data_frame, plain_text, strict_json
from invariant_sharpness.results.names import ByName
from invariant_sharpness.results.pages import Picture, table_html, write_page

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SCHEMA = 1
"""Version of the layout of :meth:`Report.to_dict`; it grows when a field changes its meaning."""

_COLUMNS: tuple[str, ...] = ("metric", "level", "group", "value", "standard_error", "method", "certificate", "claims")
_NUMBERS = ("value", "standard_error", "certificate")


@dataclass(frozen=True, slots=True)
class Report(Mapping[str, Estimate]):
    """What :func:`invariant_sharpness.measure` returns: a mapping from metric names to estimates.

    Parameters
    ----------
    estimates
        By name, in the order in which they were asked for.
    invariances
        The invariances that each metric declares.
    loss
        Mean loss at the model's parameters.
    parameters, groups
        Number of parameters that were measured, and of their groups.
    oracle
        Type of the oracle.
    seed
        Seed of all draws.
    seconds
        Duration of the measurement.
    versions
        Version of the definition of each metric that declares one.
    signature
        One line that names what the numbers depend on beside the model: metrics with their options, their versions and how each was obtained,
        loss, number of examples, fingerprint of the data, precision, seed, probes, oracle, and version of the library. Numbers of two models
        can be compared if their reports have the same.
    conditions
        The parts of the signature that are not of a metric; None for a report that was not measured.
    notes
        What holds for all estimates, in words: which parameters were left out.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> report = ish.measure(quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]])), ["hessian_trace"])
    >>> report.loss, report["hessian_trace"].value
    (20.5, 3.0)
    """

    estimates: Mapping[str, Estimate]
    invariances: Mapping[str, frozenset[str]]
    loss: float
    parameters: int
    groups: int
    oracle: str
    seed: int
    seconds: float
    versions: Mapping[str, int] = field(default_factory=dict)
    signature: str = ""
    conditions: Conditions | None = None
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Estimate:
        return ByName(self.estimates, "metric", "in this report")[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.estimates)

    def __len__(self) -> int:
        return len(self.estimates)

    def __str__(self) -> str:
        return plain_text(self.table())

    def _repr_html_(self) -> str:
        """Show the table in notebooks."""
        return table_html(self.table())

    def table(self) -> Table:
        """Make a :mod:`rich` table of the report."""
        table = Table(
            title=f"loss {self.loss:.6g}, {self.parameters} parameters in {self.groups} {'group' if self.groups == 1 else 'groups'}, seed {self.seed}",
            title_justify="left",
        )
        table.add_column("metric", no_wrap=True)
        table.add_column("value", justify="right", no_wrap=True)
        table.add_column("error", no_wrap=True)
        table.add_column("how it was obtained")
        table.add_column("invariant under", no_wrap=True)
        for name, estimate in self.estimates.items():
            value, error = f"{estimate.value:.6g}", estimate.error_text()
            table.add_row(escape(name), value, error, escape(estimate.method), self.claim(name))
        notes = [f"{name}: {note}" for name, estimate in self.estimates.items() for note in estimate.notes]
        lines = [*self.notes, *notes, *([] if self.conditions is None else [str(self.conditions)])]
        table.caption, table.caption_justify = escape("\n".join(lines)) or None, "left"
        return table

    def claim(self, name: str) -> str:
        """Name the strongest invariance that a metric declares; a dash for none."""
        if name not in self.invariances:
            return "unknown"
        return strongest_claim(self.invariances[name])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and dictionaries, with what is needed to measure again."""
        return {
            "schema": SCHEMA,
            "version": version("invariant-sharpness"),
            "loss": self.loss,
            "parameters": self.parameters,
            "groups": self.groups,
            "oracle": self.oracle,
            "seed": self.seed,
            "seconds": self.seconds,
            "signature": self.signature,
            "conditions": None if self.conditions is None else self.conditions.to_dict(),
            "notes": list(self.notes),
            "metrics": {
                name: estimate.to_dict()
                | {"invariances": sorted(self.invariances.get(name, ())), "version": self.versions.get(name)}
                for name, estimate in self.estimates.items()
            },
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """Write the JSON text of :meth:`to_dict`, with null for a number that is not finite."""
        return strict_json(self.to_dict(), indent=indent)

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row per metric, of the level ``"metric"`` and the group ``"total"``, and one per metric and parameter group."""
        rows: list[dict[str, Any]] = []
        for name, e in self.estimates.items():
            claims = {"claims": self.claim(name)}
            whole = {
                "metric": name,
                "level": "metric",
                "group": "total",
                "value": e.value,
                "standard_error": e.standard_error,
            }
            rows.append(whole | {"method": e.method, "certificate": e.certificate} | claims)
            for group, part in e.per_group.items():
                share = {"metric": name, "level": "group", "group": group, "value": part.value}
                error = {"standard_error": part.standard_error, "method": part.method, "certificate": None}
                rows.append(share | error | claims)
        return rows

    def to_csv(self) -> str:
        """Write the CSV text of :meth:`rows`, with a header."""
        return csv_text(self.rows(), _COLUMNS)

    def to_frame(self) -> pd.DataFrame:
        """Make a pandas data frame of :meth:`rows`.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        return data_frame(self.rows(), _COLUMNS, numbers=_NUMBERS, what="Report.to_frame")

    def plot(self, axes: Axes | None = None, *, metric: str = "normalized_sharpness") -> Axes:
        """Draw bars of the contribution of each parameter group to a metric; takes and returns matplotlib axes.

        A picture of its own has the signature below it.
        """
        from invariant_sharpness.plotting import plot_groups
        from invariant_sharpness.plotting.figures import signed

        return signed(plot_groups(self[metric], axes), self.signature if axes is None else "")

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write a page with the table, a picture of each metric with contributions of parameter groups, and the signature.

        The page needs no other file and no network. Without matplotlib it has no pictures.
        """
        from invariant_sharpness.plotting import plot_groups

        pictures = [
            Picture(f"{name}: contribution of each parameter group", partial(plot_groups, estimate))
            for name, estimate in self.estimates.items()
            if estimate.per_group
        ]
        write_page(
            path, title="Sharpness of a model", tables=[self.table()], pictures=pictures, signature=self.signature
        )


def strongest_claim(invariances: frozenset[str]) -> str:
    """Name the strongest of these invariances; a dash for none."""
    order = ("linear", "diagonal", "row_column", "layer")
    declared = [word for word in order if word in invariances]
    return f"{declared[0].replace('_', '/')} rescaling" if declared else "-"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
