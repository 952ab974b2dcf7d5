"""The user's data as JAX arrays, the same set of examples on every pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.data import Batches, fingerprint, leaves
from invariant_sharpness.errors import DataError
from invariant_sharpness_jax.forward import Batch, batch_size, is_per_example, to_batch


@dataclass(frozen=True, slots=True)
class Dataset:
    """Batches of arrays.

    Parameters
    ----------
    batches
        The user's data.
    dtype
        That of the parameters: floating-point arrays take it.
    print
        Fingerprint of the set of examples, checked on every pass; None for data that lie in memory.
    """

    batches: Batches
    dtype: Any
    print: int | None = None

    def __iter__(self) -> Iterator[Batch]:
        seen = 0
        for given in self.batches:
            batch = to_batch(given, self.dtype)
            if self.print is not None:
                seen += _batch_print(batch)
            yield batch
        if self.print is not None and seen % 2**64 != self.print:
            raise DataError(_CHANGED)


def checked_dataset(batches: Batches, dtype: Any) -> Dataset:
    """A data set that is known not to change: one that is not in memory is read twice.

    Raises
    ------
    DataError
        If the two passes have different examples.
    """
    if batches.static:
        return Dataset(batches, dtype)
    first, second = (sum(_batch_print(to_batch(b, dtype)) for b in batches) % 2**64 for _ in range(2))
    if first != second:
        raise DataError(_CHANGED)
    return Dataset(batches, dtype, first)


_CHANGED = (
    "the data change from pass to pass, so there is no one loss to measure: switch off random augmentation, and "
    "do not shuffle where the last batch is dropped (shuffling alone does no harm)"
)


def _batch_print(batch: Batch) -> int:
    size = batch_size(batch)
    return fingerprint([_bytes(leaf) for leaf in leaves(batch) if is_per_example(leaf, size)]) if size else 0


def _bytes(array: Any) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(array.shape[0], -1).view(np.uint8)
