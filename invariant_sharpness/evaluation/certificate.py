"""A certificate: what the symmetries of a network do to metrics, beside the invariances that these declare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from math import isfinite
from os import PathLike
from typing import TYPE_CHECKING, Any, overload

from rich.markup import escape
from rich.table import Table

from invariant_sharpness.results.export import data_frame, plain_text, strict_json
from invariant_sharpness.results.pages import Picture, table_html, write_page
from invariant_sharpness.results.records import Record, Verdict

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
class Certificate(Sequence[Record]):
    """What :func:`invariant_sharpness.certify` returns: one record for each metric and transformation. Prints as a table.

    Parameters
    ----------
    records
        The records, in the order of the metrics.
    symmetries
        The symmetries, in words.
    oracle
        Type of the oracle.
    seed
        Seed of the transformations and the metrics.
    signature
        One line that names what the numbers depend on beside the model, as that of a :class:`invariant_sharpness.Report`.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> network = ReluNetwork((np.array([[1.0, 2.0]]), np.array([[3.0]])))
    >>> oracle = ish.oracle(network, (np.array([[1.0, 1.0], [2.0, 1.0]]), np.array([[8.0], [13.0]])), loss="mse")
    >>> certificate = ish.certify(oracle, ["normalized_sharpness"])
    >>> certificate.failed
    []
    """

    records: tuple[Record, ...]
    symmetries: str
    oracle: str
    seed: int
    signature: str = ""

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Record, ...]: ...
    def __getitem__(self, index: int | slice) -> Record | tuple[Record, ...]:
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def _repr_html_(self) -> str:
        """Show the table in notebooks."""
        return table_html(self.table())

    def __str__(self) -> str:
        return plain_text(self.table())

    @property
    def findings(self) -> tuple[Record, ...]:
        """The records, under their old name."""
        return self.records

    @property
    def failed(self) -> list[Record]:
        """The invariances that do not hold, and the transformations that were no symmetries."""
        return [record for record in self.records if record.verdict in ("CLAIM FAILS", "no symmetry")]

    def worst(self) -> list[Record]:
        """Return for each metric and kind of symmetry the record with the largest change; failures come before all others."""
        worst: dict[tuple[str, str], Record] = {}
        for record in self.records:
            key = (record.metric, record.kind)
            if key not in worst or _severity(record) > _severity(worst[key]):
                worst[key] = record
        return list(worst.values())

    def table(self) -> Table:
        """Make a :mod:`rich` table of the worst of each metric and symmetry."""
        table = Table(title=escape(self.symmetries), title_justify="left")
        for heading in ("metric", "symmetry", "claimed", "moved by", "under", "verdict"):
            table.add_column(heading, no_wrap=heading != "verdict")
        for record in self.worst():
            claimed, verdict = "yes" if record.claimed else "no", record.reason or _MEANING[record.verdict]
            style = "bold red" if record.verdict in ("CLAIM FAILS", "no symmetry") else ""
            kind = record.kind.replace("_", "/")
            table.add_row(
                escape(record.metric), kind, claimed, _moved(record), record.move, escape(verdict), style=style
            )
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and dictionaries, with what is needed to certify again."""
        return {
            "version": version("invariant-sharpness"),
            "oracle": self.oracle,
            "seed": self.seed,
            "signature": self.signature,
            "symmetries": self.symmetries,
            "failed": len(self.failed),
            "findings": [record.to_dict() for record in self.records],
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """Write the JSON text of :meth:`to_dict`, with null for a number that is not finite."""
        return strict_json(self.to_dict(), indent=indent)

    def to_frame(self) -> pd.DataFrame:
        """Make a pandas data frame with one row for each record.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        return data_frame([record.to_dict() for record in self.records], _COLUMNS, what="Certificate.to_frame")

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw how far each metric moved, on a logarithmic scale; takes and returns matplotlib axes.

        A picture of its own has the signature below it.
        """
        from invariant_sharpness.plotting import plot_certificate
        from invariant_sharpness.plotting.figures import signed

        return signed(plot_certificate(self, axes), self.signature if axes is None else "")

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write a page with the table, the picture and the signature, which needs no other file and no network.

        Without matplotlib it has no picture.
        """
        from invariant_sharpness.plotting import plot_certificate

        words = "relative change of each metric under the symmetries of the model"
        pictures = [Picture(words, partial(plot_certificate, self))]
        write_page(
            path, title="Invariances of metrics", tables=[self.table()], pictures=pictures, signature=self.signature
        )


def _severity(record: Record) -> tuple[bool, float]:
    change = record.change if isfinite(record.change) else float("inf")
    return record.verdict in ("CLAIM FAILS", "no symmetry"), change


def _moved(record: Record) -> str:
    """Write the factor of what moved, and the relative change of what hardly did."""
    if record.reason:
        return "-"
    if record.change <= max(record.tolerance, 1e-2):
        return f"{record.change:.1e}" if record.change else "nothing"
    return f"x {record.factor:.3g}"
