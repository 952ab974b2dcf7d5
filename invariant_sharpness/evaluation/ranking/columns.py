"""Tables as people keep them: data frames, columns, rows, CSV and JSON lines, read into columns of plain values."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from invariant_sharpness.errors import DataError

Columns = dict[str, list[Any]]
"""A table: a list of values, one a row, for each column."""

Table = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | str | Path | Any
"""A file, columns by name, rows, or a data frame of any library whose ``columns`` are names and whose ``[name]`` is a column."""

_FORMS = "a data frame, a dictionary of columns, a list of rows, or the path of a .csv, .json or .jsonl file (also .gz)"


def read_columns(table: Table) -> Columns:
    """Read a table into lists of plain values, one for each column.

    Parameters
    ----------
    table
        A data frame, a mapping from names to columns, a list of mappings, or the path of a file: ``.csv``, ``.jsonl`` with an object a
        line, or ``.json`` with a list of objects or an object of lists; ``.gz`` after it is unpacked. A key that a row lacks is None.

    Returns
    -------
    dict
        Column by name. What a CSV file has as text is a number where it reads as one, and None where it is empty.

    Raises
    ------
    DataError
        If it is none of these, if a file cannot be read, or if columns differ in length.

    Examples
    --------
    >>> from invariant_sharpness.evaluation.ranking.columns import read_columns
    >>> read_columns([{"lr": 0.1, "gap": 0.02}, {"lr": 0.2}])
    {'lr': [0.1, 0.2], 'gap': [0.02, None]}
    """
    if isinstance(table, (str, Path)):
        return _read_file(Path(table))
    if isinstance(table, Mapping):
        return _of_equal_length({str(name): _plain(column) for name, column in table.items()})
    if isinstance(table, Sequence):
        rows = [row for row in table if isinstance(row, Mapping)]
        if len(rows) == len(table):
            return _of_rows(rows)
    elif hasattr(table, "columns") and hasattr(table, "__getitem__"):
        return _of_equal_length({str(name): _plain(table[name]) for name in table.columns})
    msg = f"the ledger is a {type(table).__name__}, but it has to be {_FORMS}"
    raise DataError(msg)


def as_number(value: Any) -> float | None:
    """Return the number that a value is, NaN for what is missing, and None for what is no number."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return float("nan")
    if isinstance(value, bool):
        return float(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _read_file(path: Path) -> Columns:
    kind = [suffix for suffix in path.suffixes if suffix != ".gz"][-1:]
    readers: dict[str, Callable[[TextIO], Columns]] = {
        ".csv": _read_csv,
        ".jsonl": lambda file: _of_rows([json.loads(line) for line in file if line.strip()]),
        ".json": lambda file: read_columns(json.load(file)),
    }
    if not kind or kind[0] not in readers:
        msg = f"{path} has the ending {path.suffix or 'of no kind'}, but a ledger is {_FORMS}"
        raise DataError(msg)
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            return readers[kind[0]](file)
    except (OSError, EOFError, ValueError) as cause:
        if isinstance(cause, DataError):
            raise
        msg = f"{path} cannot be read as a ledger: {cause}"
        raise DataError(msg) from cause


def _read_csv(file: TextIO) -> Columns:
    """Read rows with a header; a column whose entries are all numbers is one of numbers."""
    reader = csv.DictReader(file, strict=True)
    rows = list(reader)
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            msg = f"line {number} has {'more' if None in row else 'fewer'} entries than the header has names"
            raise DataError(msg)
    return {name: _numbers_if_all([row[name] or None for row in rows]) for name in reader.fieldnames or ()}


def _numbers_if_all(texts: list[str | None]) -> list[Any]:
    numbers = [None if text is None else as_number(text) for text in texts]
    is_text = any(number is None and text is not None for number, text in zip(numbers, texts, strict=True))
    return list(texts) if is_text else list(numbers)


def _of_rows(rows: Sequence[Mapping[str, Any]]) -> Columns:
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _plain(column: Any) -> list[Any]:
    """Turn arrays, series and sequences into lists of Python values."""
    return column.tolist() if hasattr(column, "tolist") else list(column)


def _of_equal_length(columns: Columns) -> Columns:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        msg = f"the columns of the ledger differ in length: {lengths}"
        raise DataError(msg)
    return columns
