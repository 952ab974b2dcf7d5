"""A comparison: the reports of several models in one table, and which differences exceed their errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from os import PathLike
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from invariant_sharpness.evaluation.report import Report
from invariant_sharpness.results.agreement import Difference, difference
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.results.export import csv_text, data_frame, plain_text, strict_json
from invariant_sharpness.results.names import ByName
from invariant_sharpness.results.pages import Picture, table_html, write_page
from invariant_sharpness.results.ratios import ratio

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SCHEMA = 1
"""Version of the layout of :meth:`Comparison.to_dict`; it grows when a field changes its meaning."""

_NUMBERS = ("value", "standard_error", "certificate", "ratio", "difference", "lower", "upper")
_COLUMNS = (
    *("model", "metric", "level", "group", "value", "standard_error", "method", "certificate", "claims"),
    *("ratio", "difference", "lower", "upper", "verdict"),
)


@dataclass(frozen=True, slots=True)
class Comparison(Mapping[str, Report]):
    """What :func:`invariant_sharpness.compare` returns: a mapping from the names of models to their reports. Prints as one table.

    Parameters
    ----------
    reports
        By the name of the model; the others are compared with the first.
    warnings
        What else than the models may explain a difference, in words.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracles = {"flat": quadratic(np.eye(2), [[3.0, 4.0]]), "sharp": quadratic(2 * np.eye(2), [[3.0, 4.0]])}
    >>> comparison = ish.compare(oracles, ["hessian_trace"])
    >>> comparison.difference("hessian_trace", "sharp").value
    2.0
    """

    reports: Mapping[str, Report]
    warnings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Report:
        return ByName(self.reports, "model", "in this comparison")[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.reports)

    def __len__(self) -> int:
        return len(self.reports)

    def __str__(self) -> str:
        return plain_text(self.table())

    def _repr_html_(self) -> str:
        """Show the table in notebooks."""
        return table_html(self.table())

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all that was measured of any model, in the order of the reports."""
        return tuple(dict.fromkeys(name for report in self.reports.values() for name in report))

    @property
    def signature(self) -> str:
        """The signature of the reports; where they differ each one, with the names of the models that have it."""
        return " | ".join(_shared({name: report.signature for name, report in self.reports.items()}))

    def estimates(self, metric: str) -> dict[str, Estimate]:
        """Return the estimates of one metric by the name of the model.

        Raises
        ------
        UnknownNameError
            If it was measured of no model; lists what was.
        """
        ByName(dict.fromkeys(self.metrics), "metric", "in this comparison")[metric]
        return {name: report[metric] for name, report in self.reports.items() if metric in report}

    def difference(self, metric: str, model: str) -> Difference | None:
        """Compare one metric of a model with that of the first; None if one of them has no such value."""
        first = next(iter(self.reports))
        found, other = self.estimates(metric), self[model]
        if first not in found or metric not in other:
            return None
        return difference(found[first], other[metric], max(_epsilon(self[first]), _epsilon(other)))

    def table(self) -> Table:
        """Make a :mod:`rich` table with a column for each model, and one for each that is compared with the first."""
        first, *others = self.reports
        losses = ", ".join(f"{report.loss:.6g} ({name})" for name, report in self.reports.items())
        table = Table(title=escape(f"loss {losses}"), title_justify="left")
        table.add_column("metric", no_wrap=True)
        for name in self.reports:
            table.add_column(escape(name), justify="right")
        for name in others:
            table.add_column(escape(f"{name} / {first}"))
        for metric in self.metrics:
            values = [_value(report.estimates.get(metric)) for report in self.reports.values()]
            table.add_row(escape(metric), *values, *(_ratio(self.difference(metric, name)) for name in others))
        conditions = {name: str(one.conditions) for name, one in self.reports.items() if one.conditions is not None}
        lines = [*(f"Warning: {warning}" for warning in self.warnings), *_shared(conditions)]
        table.caption, table.caption_justify = escape("\n".join(lines)) or None, "left"
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and dictionaries: every report, and every difference to the first model."""
        first, *others = self.reports
        return {
            "schema": SCHEMA,
            "version": version("invariant-sharpness"),
            "signature": self.signature,
            "warnings": list(self.warnings),
            "reports": {name: report.to_dict() for name, report in self.reports.items()},
            "compared_with": first,
            "differences": {
                name: {metric: _difference_columns(self.difference(metric, name)) for metric in self.metrics}
                for name in others
            },
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """Write the JSON text of :meth:`to_dict`, with null for a number that is not finite."""
        return strict_json(self.to_dict(), indent=indent)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the reports, each with its model, and with the ratio and the difference to the first model."""
        first = next(iter(self.reports))
        start = {(row["metric"], row["level"], row["group"]): row["value"] for row in self[first].rows()}
        rows: list[dict[str, Any]] = []
        for model, report in self.reports.items():
            for row in report.rows():
                before = start.get((row["metric"], row["level"], row["group"]))
                found = self.difference(row["metric"], model) if row["level"] == "metric" and model != first else None
                share = None if model == first or before is None else ratio(row["value"], before)
                rows.append({"model": model} | row | _difference_columns(found) | {"ratio": share})
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
        return data_frame(self.rows(), _COLUMNS, numbers=_NUMBERS, what="Comparison.to_frame")

    def plot(self, axes: Axes | None = None, *, metric: str | None = None) -> Axes:
        """Draw the ratio of every metric to that of the first model; takes and returns matplotlib axes.

        With ``metric``, draw the contributions of the parameter groups to this metric, side by side. A picture of its own has the signature below it.
        """
        from invariant_sharpness.plotting.figures import signed

        return signed(self._picture(metric, axes), self.signature if axes is None else "")

    def _picture(self, metric: str | None, axes: Axes | None = None) -> Axes:
        from invariant_sharpness.plotting import plot_groups_together, plot_ratios

        if metric is None:
            return plot_ratios(self._differences(), axes, reference=next(iter(self.reports)))
        return plot_groups_together(self.estimates(metric), axes)

    def _differences(self) -> dict[str, dict[str, Difference]]:
        """All differences to the first model, by the name of the other one."""
        others = list(self.reports)[1:]
        found = {name: {metric: self.difference(metric, name) for metric in self.metrics} for name in others}
        return {name: {m: d for m, d in by_metric.items() if d is not None} for name, by_metric in found.items()}

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write a page with the table, pictures of the ratios and of the parameter groups, and the signature.

        The page needs no other file and no network. Without matplotlib it has no pictures.
        """
        pictures = [Picture("ratio of each metric to that of the first model", partial(self._picture, None))]
        for metric in self.metrics:
            groups = [list(estimate.per_group) for estimate in self.estimates(metric).values()]
            if groups[0] and all(one == groups[0] for one in groups):
                words = f"{metric}: contribution of each parameter group"
                pictures.append(Picture(words, partial(self._picture, metric)))
        write_page(
            path, title="Sharpness of models", tables=[self.table()], pictures=pictures, signature=self.signature
        )


def _shared(words: Mapping[str, str]) -> list[str]:
    """The words that all models have; where they differ, with the names of those that have them."""
    names = {text: [name for name, other in words.items() if other == text] for text in words.values()}
    return list(names) if len(names) == 1 else [f"{', '.join(models)}: {text}" for text, models in names.items()]


def _epsilon(report: Report) -> float:
    return 2.0**-52 if report.conditions is None else report.conditions.epsilon


def _difference_columns(found: Difference | None) -> dict[str, Any]:
    if found is None:
        return dict.fromkeys(("ratio", "difference", "lower", "upper", "verdict"))
    figures = {"ratio": ratio(found.after, found.before), "difference": found.value}
    return figures | {"lower": found.lower, "upper": found.upper, "verdict": found.verdict}


def _value(estimate: Estimate | None) -> str:
    """Write a value, with its error where it is more than rounding and proven gaps."""
    if estimate is None:
        return "-"
    value, error = f"{estimate.value:.6g}", estimate.error_text()
    if estimate.kind == "lower bound":
        return f"≥ {value}" + error.removeprefix("lower bound")
    return value if estimate.kind != "sampled" and estimate.converged else f"{value} ({error})"


def _ratio(found: Difference | None) -> str:
    return "-" if found is None else f"{ratio(found.after, found.before):.4g}, {found.verdict}"
