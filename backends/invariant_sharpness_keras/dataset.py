"""The user's data as batches on the host, the same set of examples on every pass."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from invariant_sharpness.data import Batches, fingerprint, leaves
from invariant_sharpness.errors import DataError
from invariant_sharpness_keras.batch import Batch, host_batch

_PASS_SEED = 0x5EED
_CHANGED = (
    "the data change from pass to pass, so there is no one loss to measure: switch off random augmentation, and "
    "shuffling together with dropping the last batch (shuffling alone does no harm)"
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Batches of arrays.

    Parameters
    ----------
    batches
        The user's data.
    dtype
        Floating-point arrays take it.
    print
        Fingerprint of the set of examples, checked on every pass; None for data that lie in memory.
    """

    batches: Batches
    dtype: np.dtype[Any]
    print: int | None = None

    def __iter__(self) -> Iterator[Batch]:
        seen = 0
        for given in self.batches:
            batch = host_batch(given, self.dtype)
            if self.print is not None:
                seen += _batch_print(batch)
            yield batch
        if self.print is not None and seen % 2**64 != self.print:
            raise DataError(_CHANGED)


def checked_dataset(batches: Batches, dtype: np.dtype[Any]) -> Dataset:
    """A data set that is known not to change: a loader is read twice, with different random states.

    Raises
    ------
    DataError
        If the two passes have different examples, or the data never end.
    """
    if batches.static:
        return Dataset(batches, dtype)
    cardinality = getattr(batches.source, "cardinality", None)
    if callable(cardinality) and int(cardinality()) == -1:
        msg = "the data never end, because of repeat(): leave it out, or add take(number_of_batches)"
        raise DataError(msg)
    prints = []
    for seed in (1, 2):
        with random_state(seed):
            prints.append(sum(_batch_print(batch) for batch in Dataset(batches, dtype)) % 2**64)
    if prints[0] != prints[1]:
        raise DataError(_CHANGED)
    return Dataset(batches, dtype, prints[0])


@contextmanager
def random_state(seed: int = _PASS_SEED) -> Generator[None]:
    """Start from a fixed random state, and restore that of NumPy and Python: a loader may draw from them."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's global state is kept
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _batch_print(batch: Batch) -> int:
    numbers = [leaf for leaf in leaves(batch) if leaf.dtype.kind in "biuf"]
    return fingerprint([leaf.reshape(len(leaf), -1) for leaf in numbers]) if batch.examples else 0
