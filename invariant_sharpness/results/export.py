"""Data frames, where pandas is installed.

JSON as the standard has it: NaN and infinity, which it lacks, become null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from invariant_sharpness.errors import missing_dependency

if TYPE_CHECKING:
    import pandas as pd


def data_frame(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, what: str) -> pd.DataFrame:
    """A pandas data frame with these columns; ``what`` needs it.

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
    return pd.DataFrame(rows, columns=list(columns))


def strict_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON text of nested mappings, sequences, strings and numbers; null for a number that is not finite."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
