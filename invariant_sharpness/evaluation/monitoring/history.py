"""The entries of a training run, as a table, data frame, picture, page and file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from rich.markup import escape
from rich.table import Table

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.evaluation.monitoring.entries import COLUMNS, NUMBERS, VALUES, Entry
from invariant_sharpness.evaluation.monitoring.lines import FORMAT, read_lines, write_lines
from invariant_sharpness.results.export import data_frame, plain_text
from invariant_sharpness.results.names import ByName
from invariant_sharpness.results.pages import Picture, table_html, write_page

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


class History(Sequence[Entry]):
    """What a monitor measured: a sequence of entries.

    Parameters
    ----------
    metrics
        The metrics with their options, in words.
    entries
        In the order in which they were measured.
    """

    def __init__(self, metrics: Sequence[str], entries: Sequence[Entry] = ()) -> None:
        self._metrics, self._entries = tuple(metrics), list(entries)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        return self._entries[index]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __str__(self) -> str:
        return plain_text(self.table())

    def _repr_html_(self) -> str:
        """Show the table in notebooks."""
        return table_html(self.table())

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics that have a value or an error somewhere."""
        return tuple(dict.fromkeys(name for entry in self for name in (*entry.estimates, *entry.errors)))

    @property
    def signature(self) -> str:
        """The signature of the last entry that has one."""
        return next((entry.signature for entry in reversed(self) if entry.signature), "")

    def table(self) -> Table:
        """Make a :mod:`rich` table with a row for each entry; below it is why values are missing."""
        table = Table(title=f"{len(self)} {'entry' if len(self) == 1 else 'entries'}", title_justify="left")
        for name in ("step", "learning rate", "probe loss", *self.metrics):
            table.add_column(escape(name), justify="right")
        for entry in self:
            rate = "-" if entry.learning_rate is None else f"{entry.learning_rate:.4g}"
            values = [f"{entry.estimates[m].value:.6g}" if m in entry.estimates else "-" for m in self.metrics]
            table.add_row(str(entry.step), rate, f"{entry.probe_loss:.6g}", *values)
        errors = [f"step {entry.step}, {name}: {words}" for entry in self for name, words in entry.errors.items()]
        table.caption, table.caption_justify = escape("\n".join([*errors, self.signature]).strip()) or None, "left"
        return table

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each value: of an entry and a metric, and of each contribution of a parameter group."""
        return [row for entry in self for row in entry.rows()]

    def to_frame(self) -> pd.DataFrame:
        """Make a pandas data frame of :meth:`rows`; what the loop logged has columns of its own.

        ``frame[frame.level == "metric"].pivot(index="step", columns="metric", values="value")`` has a column for each metric.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        logged = dict.fromkeys(name for entry in self for name in entry.logged)
        return data_frame(self.rows(), (*COLUMNS, *logged, *VALUES), numbers=NUMBERS, what="Monitor.to_frame")

    def plot(self, axes: Axes | None = None, *, metric: str | None = None) -> Axes:
        """Draw a metric over the steps, with the threshold of stability where it has one: 2 / learning rate, or that of the optimizer.

        A picture of its own has the signature below it.

        Parameters
        ----------
        axes
            The axes to draw in; by default those of a new figure.
        metric
            Its name; by default the first one.

        Returns
        -------
        Axes
            The axes with the picture.

        Raises
        ------
        ArgumentError
            If there are no entries.
        UnknownNameError
            If no entry has this metric; lists those there are.
        MissingDependencyError
            If matplotlib is not installed.
        """
        from invariant_sharpness.plotting import plot_course
        from invariant_sharpness.plotting.figures import signed

        if not self.metrics:
            msg = "there is nothing to draw, since nothing has been measured: call monitor.step(model, step=...) in the loop of the training"
            raise ArgumentError(msg)
        name = self.metrics[0] if metric is None else metric
        ByName(dict.fromkeys(self.metrics), "metric", "in this monitor")[name]
        return signed(plot_course(self, name, axes), self.signature if axes is None else "")

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write a page with the table, a picture of each metric, and the signature.

        The page needs no other file and no network. Without matplotlib it has no pictures.
        """
        from invariant_sharpness.plotting import plot_course

        pictures = [Picture(f"{name} over the steps", partial(plot_course, self, name)) for name in self.metrics]
        write_page(
            path, title="Sharpness in training", tables=[self.table()], pictures=pictures, signature=self.signature
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write all entries to a file, in the form in which a monitor with a ``path`` writes them; what is there is replaced."""
        write_lines(Path(path), [self._start(0), *(entry.to_dict() for entry in self)])

    @classmethod
    def load(cls, path: str | PathLike[str]) -> History:
        """Read the entries of a file, also of one that a run is still writing, or was killed while it did.

        Raises
        ------
        CheckpointError
            If there is no such file, or it is none of a monitor.
        """
        starts, entries = read_lines(Path(path))
        return History(starts[0]["metrics"] if starts else (), entries)

    def _start(self, run: int) -> dict[str, Any]:
        """What the file says of one start of a monitor."""
        return {
            "monitor": FORMAT,
            "run": run,
            "version": version("invariant-sharpness"),
            "metrics": list(self._metrics),
        }
