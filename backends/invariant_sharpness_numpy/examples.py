"""The data of the reference backend: checked, copied, and cut into batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.data import Batch, first_non_finite
from invariant_sharpness.errors import DataError, NonFiniteError

Array = npt.NDArray[np.float64]


def checked_examples(x: Any, y: Any, features: int) -> Batch:
    """Copies of ``x`` and ``y`` that can be measured on.

    Raises
    ------
    DataError
        If there are no examples, shapes do not fit, or numbers are complex.
    NonFiniteError
        If an entry is NaN or infinite; names the row.
    """
    inputs, targets = checked_inputs(x, features), _checked_targets(y)
    if targets.ndim == 0 or len(inputs) != len(targets):
        msg = f"x has {len(inputs)} rows, but y has shape {targets.shape}: give one target per row of x"
        raise DataError(msg)
    if len(inputs) == 0:
        msg = "the data are empty: there is no example to measure on"
        raise DataError(msg)
    return Batch(inputs, targets)


def checked_inputs(x: Any, features: int) -> Array:
    """A float64 copy of ``x``.

    Raises
    ------
    DataError
        If ``x`` is not a real array of shape (n, features).
    NonFiniteError
        If an entry is NaN or infinite; names the row.
    """
    given = _real(x, "x")
    if given.ndim != 2 or given.shape[1] != features:
        msg = f"x has shape {given.shape}, but the network takes {features} inputs: give x of shape (n, {features})"
        raise DataError(msg)
    inputs = given.astype(np.float64)
    _check_finite(inputs, "x")
    return inputs


def _checked_targets(y: Any) -> npt.NDArray[Any]:
    given = _real(y, "y")
    if not np.issubdtype(given.dtype, np.floating):
        return given.copy()
    targets = given.astype(np.float64)
    _check_finite(targets, "y")
    return targets


def _real(values: Any, name: str) -> npt.NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind in "biuf":
        return array
    msg = f"{name} has dtype {array.dtype}, but it has to hold real numbers: convert it to floats or integers first"
    raise DataError(msg)


def _check_finite(values: Array, name: str) -> None:
    row = first_non_finite(values)
    if row is not None:
        msg = f"{name} has NaN or infinite entries, first in row {row}: clean the data"
        raise NonFiniteError(msg)
