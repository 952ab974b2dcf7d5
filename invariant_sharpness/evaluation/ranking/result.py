"""The result of :func:`invariant_sharpness.rank`: a mapping from measures to their statistics."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from invariant_sharpness.evaluation.ranking.bootstrap import Interval, interval
from invariant_sharpness.evaluation.ranking.ledger import Values
from invariant_sharpness.results.export import csv_text, data_frame, plain_text, strict_json
from invariant_sharpness.results.names import ByName
from invariant_sharpness.results.pages import table_html

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

HIGHER_IS_BETTER = ("kendall", "granulated_kendall", "granulated_kendall_b", "conditional_mutual_information")
LOWER_IS_BETTER = ("sign_error_mean", "sign_error_90", "sign_error_max", "selection_regret", "fragility")
STATISTICS = HIGHER_IS_BETTER + LOWER_IS_BETTER

_HEADINGS = {
    "kendall": "Kendall tau",
    "granulated_kendall": "Psi",
    "granulated_kendall_b": "Psi (tau-b)",
    "conditional_mutual_information": "CMI",
    "sign_error_mean": "sign error\nmean",
    "sign_error_90": "sign error\n90 %",
    "sign_error_max": "sign error\nmax",
    "selection_regret": "regret",
    "fragility": "fragility",
}


@dataclass(frozen=True)
class Ranking(Mapping[str, Mapping[str, Interval]]):
    """How well measures order the gaps of a ledger.

    A mapping from the name of a measure to its statistics by name: ``ranking["trace"]["kendall"].low``.

    Parameters
    ----------
    statistics
        The statistics of each measure, with their intervals.
    by_hyperparameter
        For each measure and hyperparameter ``psi``, Kendall's coefficient where only that one varies, whose sign is that of the relation.
    resampled
        For each measure and statistic its values in the resampled ledgers, the same ledgers for all.
    sign_errors
        For each measure the sign error of every environment, for the distribution of errors.
    points
        For each measure the measure, the gap and the first hyperparameter's value of each network, for scatter plots.
    networks, configurations, environments
        Their numbers in the whole ledger.
    level
        Level of the intervals.
    notes
        What was left out, and what is unusual about the ledger.

    Examples
    --------
    >>> import invariant_sharpness as ish
    >>> rows = [{"lr": lr, "seed": 0, "gap": lr / 10, "trace": lr**2, "norm": -lr} for lr in range(6)]
    >>> ish.rank(rows, ["trace", "norm"], hyperparameters=["lr"]).places("kendall")
    {'trace': 1, 'norm': 2}
    """

    statistics: Mapping[str, Mapping[str, Interval]]
    by_hyperparameter: Mapping[str, Mapping[str, Interval]]
    resampled: Mapping[str, Mapping[str, Values]] = field(repr=False)
    sign_errors: Mapping[str, Values] = field(repr=False)
    points: Mapping[str, tuple[Values, Values, Sequence[Any]]] = field(repr=False)
    networks: int
    configurations: int
    environments: int
    level: float
    notes: Sequence[str] = ()

    def __getitem__(self, measure: str) -> Mapping[str, Interval]:
        return ByName(self.statistics, "measure", "in this ranking")[measure]

    def __iter__(self) -> Iterator[str]:
        return iter(self.statistics)

    def __len__(self) -> int:
        return len(self.statistics)

    def places(self, statistic: str = "granulated_kendall") -> dict[str, int]:
        """Place the measures by a statistic, best first; those that are not told apart from better ones share their place.

        A measure's place is one more than the number of measures that are better by more than the resampled differences explain. One whose
        statistic is not defined comes last.
        """
        values = {measure: ByName(of, "statistic")[statistic].value for measure, of in self.statistics.items()}
        order = sorted(values, key=lambda name: (np.isnan(values[name]), -self._sign(statistic) * values[name]))
        places = {
            name: 1 + sum(self._is_better(other, name, statistic) for other in self.statistics if other != name)
            for name in order
        }
        return {name: len(places) if np.isnan(values[name]) else place for name, place in places.items()}

    def _sign(self, statistic: str) -> int:
        return 1 if statistic in HIGHER_IS_BETTER else -1

    def _is_better(self, one: str, other: str, statistic: str) -> bool:
        """Whether the whole interval of the paired difference is on one side of zero."""
        difference = self.resampled[one][statistic] - self.resampled[other][statistic]
        return bool(interval(0.0, self._sign(statistic) * difference, self.level).low > 0)

    def __str__(self) -> str:
        return plain_text(self.table())

    def _repr_html_(self) -> str:
        """Show the tables in notebooks."""
        notes = "".join(f"<p>note: {html.escape(note)}</p>" for note in self.notes)
        return "\n".join(map(table_html, self._tables())) + notes

    def table(self) -> Group:
        """Make :mod:`rich` tables: what the order is worth, what the errors are, and the relation along each hyperparameter."""
        return Group(*self._tables(), *(escape(f"note: {note}") for note in self.notes))

    def _tables(self) -> list[Table]:
        title = f"{self.networks} networks, {self.configurations} configurations, {self.environments} environments, {self.level:.0%} intervals"
        return [
            _table(f"Order (higher is better): {title}", HIGHER_IS_BETTER, self.statistics),
            _table("Errors (lower is better)", LOWER_IS_BETTER, self.statistics),
            _table("Kendall's tau where one hyperparameter varies", self.hyperparameters, self.by_hyperparameter),
        ]

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """The names of the hyperparameters."""
        return tuple(next(iter(self.by_hyperparameter.values())))

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row per measure: each statistic, its ends as ``_low`` and ``_high``, and ``psi_`` of each hyperparameter."""
        return [{"measure": measure} | self._row(measure) for measure in self.statistics]

    def _row(self, measure: str) -> dict[str, float]:
        along = {f"psi_{name}": values for name, values in self.by_hyperparameter[measure].items()}
        row: dict[str, float] = {}
        for name, found in (dict(self.statistics[measure]) | along).items():
            row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        return row

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and dictionaries."""
        return {
            "networks": self.networks,
            "configurations": self.configurations,
            "environments": self.environments,
            "level": self.level,
            "notes": list(self.notes),
            "measures": {
                measure: {name: found.to_dict() for name, found in of.items()}
                | {
                    "by_hyperparameter": {
                        name: found.to_dict() for name, found in self.by_hyperparameter[measure].items()
                    }
                }
                for measure, of in self.statistics.items()
            },
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """Write the JSON text of :meth:`to_dict`, with null for what is not defined."""
        return strict_json(self.to_dict(), indent=indent)

    def to_csv(self) -> str:
        """Write the CSV text of :meth:`rows`, with a header."""
        rows = self.rows()
        return csv_text(rows, list(rows[0]))

    def to_frame(self) -> pd.DataFrame:
        """Make a pandas data frame of :meth:`rows`.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        rows = self.rows()
        return data_frame(rows, list(rows[0]), what="Ranking.to_frame")

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw for each measure the share of environments with at most a sign error; takes and returns matplotlib axes."""
        from invariant_sharpness.plotting import plot_sign_errors

        return plot_sign_errors(self.sign_errors, axes)

    def plot_scatter(self, measure: str, axes: Axes | None = None) -> Axes:
        """Draw the gap of each network over a measure, a color for each value of the first hyperparameter."""
        from invariant_sharpness.plotting import plot_gaps

        values, gaps, colors = ByName(self.points, "measure", "in this ranking")[measure]
        return plot_gaps(values, gaps, colors, name=measure, color_name=self.hyperparameters[0], axes=axes)


def _table(title: str, names: Sequence[str], of: Mapping[str, Mapping[str, Interval]]) -> Table:
    table = Table(title=escape(title), title_justify="left")
    table.add_column("measure", overflow="fold")
    for name in names:
        table.add_column(_HEADINGS.get(name, escape(name)), no_wrap=True)
    for measure, found in of.items():
        table.add_row(escape(measure), *(_cell(found[name]) for name in names))
    return table


def _cell(found: Interval) -> str:
    return "-" if np.isnan(found.value) else escape(f"{found.value:.3f}\n{found.low:.2f} to {found.high:.2f}")
