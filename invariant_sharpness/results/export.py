"""The export of results: data frames where pandas is installed, and JSON as the standard has it.

NaN and infinity, which JSON lacks, become null.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType

from invariant_sharpness.errors import missing_dependency

if TYPE_CHECKING:
    import pandas as pd


def data_frame(
    rows: Sequence[dict[str, Any]], columns: Sequence[str], *, numbers: Sequence[str] = (), what: str
) -> pd.DataFrame:
    """Make a pandas data frame with these columns, which ``what`` needs; ``numbers`` are columns of floats, with NaN for None.

    Raises
    ------
    MissingDependencyError
        If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as cause:
        error = missing_dependency("pandas", "frame", what)
        raise error from cause
    return pd.DataFrame(rows, columns=list(columns)).astype(dict.fromkeys(numbers, float))


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Write rows as CSV, with a header; None is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def plain_text(table: RenderableType) -> str:
    """Write a :mod:`rich` table as a terminal of 118 columns shows it, without colors and trailing spaces."""
    text = io.StringIO()
    Console(file=text, width=118, highlight=False, force_jupyter=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def strict_json(value: Any, *, indent: int | None = 2) -> str:
    """Write nested mappings, sequences, strings and numbers as JSON, with null for a number that is not finite."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
