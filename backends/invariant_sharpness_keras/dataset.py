"""The user's data as batches on the host, the same set of examples on every pass."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from invariant_sharpness.adapters import data
from invariant_sharpness.adapters.data import Batch, Batches, leaves
from invariant_sharpness.adapters.data import random_state as random_state
from invariant_sharpness.errors import DataError
from invariant_sharpness_keras.batch import host_batch

Dataset = data.Dataset[Batch]


def checked_dataset(batches: Batches, dtype: np.dtype[Any]) -> Dataset:
    """A data set that is known not to change; floating-point arrays take ``dtype``.

    Raises
    ------
    DataError
        If a loader has different examples on two passes, or never ends.
    """
    cardinality = getattr(batches.source, "cardinality", None)
    if callable(cardinality) and int(cardinality()) == -1:
        msg = "the data never end, because of repeat(): leave it out, or add take(number_of_batches)"
        raise DataError(msg)
    return data.checked_dataset(batches, partial(host_batch, dtype=dtype), _rows)


def _rows(batch: Batch) -> list[np.ndarray[Any, Any]]:
    return [leaf for leaf in leaves(batch) if leaf.dtype.kind in "biuf"]
