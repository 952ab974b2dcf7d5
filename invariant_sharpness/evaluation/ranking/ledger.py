"""The ledger: networks with their configuration, their repeat, their gap and their measures, checked and sorted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import DataError
from invariant_sharpness.evaluation.ranking.columns import Columns, Table, as_number, read_columns
from invariant_sharpness.results.names import no_such_name

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Ledger:
    """Networks, sorted by configuration.

    Parameters
    ----------
    gaps
        Generalization gap of each network, shape ``(T,)``.
    errors
        Test error of each network; the gaps where none was named.
    configurations
        Number of each network's configuration, rising, shape ``(T,)``.
    repeats
        Number of each network's repeat, such as its seed, shape ``(T,)``.
    levels
        For each of ``C`` configurations the number of its value of each of ``n`` hyperparameters, shape ``(C, n)``.
    hyperparameters
        Their names.
    rows
        The row of the table that each network comes from, counted from 0.
    """

    gaps: Values
    errors: Values
    configurations: Indices
    repeats: Indices
    levels: Indices
    hyperparameters: tuple[str, ...]
    rows: Indices

    @cached_property
    def starts(self) -> Indices:
        """The first network of each configuration."""
        return np.flatnonzero(np.diff(self.configurations, prepend=-1))

    @property
    def num_configurations(self) -> int:
        """How many configurations have a network."""
        return len(self.levels)

    def where(self, kept: npt.NDArray[np.bool_]) -> tuple[Ledger, Indices]:
        """Return the ledger of some networks, and the numbers that its configurations have in this one."""
        numbers, configurations = np.unique(self.configurations[kept], return_inverse=True)
        part = replace(
            self,
            gaps=self.gaps[kept],
            errors=self.errors[kept],
            configurations=configurations,
            repeats=self.repeats[kept],
            levels=self.levels[numbers],
            rows=self.rows[kept],
        )
        return part, numbers

    def pair_sums(self, rule: Callable[[slice], Values]) -> Values:
        """Sum over the networks of two configurations: ``C x C`` sums of what ``rule`` has of pairs, some rows of ``T x T`` at a time.

        A network makes no pair with itself: the diagonal of ``rule`` has to be zero.
        """
        ends = [*self.starts[1:], len(self.gaps)]
        rows = [rule(slice(start, end)) for start, end in zip(self.starts, ends, strict=True)]
        return np.stack([np.add.reduceat(row.sum(axis=0), self.starts) for row in rows])

    def lines(self, hyperparameter: int) -> Indices:
        """Number the lines of the grid along one hyperparameter: equal where all others are, shape ``(C,)``."""
        others = np.delete(self.levels, hyperparameter, axis=1)
        return np.unique(others, axis=0, return_inverse=True)[1].reshape(-1)

    def notes(self) -> list[str]:
        """Say what is unusual about the grid, and what follows from it."""
        grid = prod(len(np.unique(column)) for column in self.levels.T)
        found = []
        if grid > self.num_configurations:
            words = f"{self.num_configurations} of {grid} configurations of the grid are there: cells with one network say nothing"
            found.append(words)
        if len(self.gaps) == self.num_configurations:
            found.append("one network for each configuration: what differs between repeats is not seen")
        for name, column in zip(self.hyperparameters, self.levels.T, strict=True):
            if len(np.unique(column)) == 1:
                found.append(f"{name} has one value in all networks, so that it says nothing")
        return found


def read_ledger(
    table: Table, *, gap: str, hyperparameters: Sequence[str], repeats: str | None, test_error: str | None
) -> tuple[Ledger, Columns]:
    """Read a table, check what it says of configurations and gaps, and return it with its columns in the ledger's order.

    Raises
    ------
    DataError
        If the table cannot be read, lacks a column, has fewer than two configurations, a gap that is no finite number, or two rows of
        one configuration and repeat.
    """
    columns = read_columns(table)
    if isinstance(hyperparameters, str) or not hyperparameters:
        msg = f"hyperparameters={hyperparameters!r}, but it has to be a list of at least one column, such as ['lr', 'width']"
        raise DataError(msg)
    named = [gap, *hyperparameters, *filter(None, (repeats, test_error))]
    for name in named:
        _require_column(columns, name, is_repeat=name == repeats)
    gaps = finite_column(columns, gap, "gap")
    errors = finite_column(columns, test_error, "test error") if test_error else gaps
    codes = np.stack([_codes(columns[name]) for name in hyperparameters], axis=1).reshape(len(gaps), -1)
    levels, configurations = np.unique(codes, axis=0, return_inverse=True)
    configurations = configurations.reshape(-1)
    if len(levels) < 2:
        msg = f"the ledger has {len(levels)} configuration of {', '.join(hyperparameters)}: nothing can be ranked with fewer than two"
        raise DataError(msg)
    numbers = _codes(columns[repeats]) if repeats else _counted(configurations)
    order = np.lexsort((numbers, configurations))
    ledger = Ledger(
        gaps[order], errors[order], configurations[order], numbers[order], levels, tuple(hyperparameters), order
    )
    _refuse_duplicates(ledger)
    return ledger, columns


def finite_column(columns: Mapping[str, Sequence[Any]], name: str, what: str) -> Values:
    """Return a column of finite numbers.

    Raises
    ------
    DataError
        If an entry is missing, no number, or not finite; names the row.
    """
    numbers = [as_number(value) for value in columns[name]]
    for row, (number, value) in enumerate(zip(numbers, columns[name], strict=True)):
        if number is None or not isfinite(number):
            msg = f"row {row}: the {what} ({name}) is {value!r}, but it has to be a finite number; leave such rows out yourself"
            raise DataError(msg)
    return np.asarray(numbers, dtype=np.float64)


def _require_column(columns: Columns, name: str, *, is_repeat: bool) -> None:
    if name in columns:
        return
    advice = "; pass repeats=None if a configuration was trained once, or its runs have no number" if is_repeat else ""
    raise DataError(no_such_name("column", name, list(columns), "in the ledger") + advice)


def _codes(column: Sequence[Any]) -> Indices:
    """Number the different values of a column; numbers count as equal to twelve digits."""
    keys = [f"{value:.12g}" if isinstance(value, float) else str(value) for value in column]
    return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.intp)


def _counted(configurations: Indices) -> Indices:
    """Number the networks of each configuration in the order of their rows."""
    seen: dict[int, int] = {}
    numbers = []
    for configuration in configurations.tolist():
        seen[configuration] = seen.get(configuration, -1) + 1
        numbers.append(seen[configuration])
    return np.asarray(numbers, dtype=np.intp)


def _refuse_duplicates(ledger: Ledger) -> None:
    same = (np.diff(ledger.configurations) == 0) & (np.diff(ledger.repeats) == 0)
    if same.any():
        first = int(np.flatnonzero(same)[0])
        rows = ledger.rows[first : first + 2].tolist()
        msg = (
            f"rows {rows[0]} and {rows[1]} have the same configuration and the same repeat, as do {int(same.sum())} pairs in all: "
            f"drop duplicates, or name every hyperparameter that differs"
        )
        raise DataError(msg)
