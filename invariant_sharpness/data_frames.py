"""Data frames, where pandas is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from invariant_sharpness.registry import missing_dependency

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
