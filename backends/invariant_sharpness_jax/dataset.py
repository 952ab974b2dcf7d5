"""The user's data as JAX arrays, the same set of examples on every pass."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from invariant_sharpness.adapters import data
from invariant_sharpness.adapters.data import Batch, Batches, is_per_example, leaves
from invariant_sharpness_jax.forward import to_batch

Dataset = data.Dataset[Batch]


def checked_dataset(batches: Batches, dtype: Any) -> Dataset:
    """A data set that is known not to change; floating-point arrays take ``dtype``."""
    return data.checked_dataset(batches, partial(to_batch, dtype=dtype), _rows)


def _rows(batch: Batch) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(leaf) for leaf in leaves(batch) if is_per_example(leaf, batch.examples)]
