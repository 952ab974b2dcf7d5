"""A number for a set of examples, by which a data set is known again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def fingerprint(examples: Sequence[npt.NDArray[Any]]) -> int:
    """A number that depends on the set of examples, but not on their order or on the batches.

    ``examples`` are arrays with one row per example. The fingerprint of a data set is the sum over its
    batches, modulo 2**64.
    """
    rows = len(examples[0]) if examples else 0
    if rows == 0:
        return 0
    mixed = np.zeros(rows, dtype=np.uint64)
    for array in examples:
        mixed = _mix(mixed * np.uint64(0x9E3779B97F4A7C15) + _row_hashes(array, rows))
    return int(np.sum(mixed, dtype=np.uint64))


def _row_hashes(array: npt.NDArray[Any], rows: int) -> npt.NDArray[np.uint64]:
    data = np.ascontiguousarray(array).reshape(rows, -1).view(np.uint8)
    padded = np.zeros((rows, -(-data.shape[1] // 8) * 8), dtype=np.uint8)
    padded[:, : data.shape[1]] = data
    words = padded.view(np.uint64)
    weights = np.random.Philox(key=0).random_raw(words.shape[1]) | np.uint64(1)
    return np.asarray((_mix(words) * weights).sum(axis=1, dtype=np.uint64))


def _mix(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread every bit over the word (the finalizer of MurmurHash3)."""
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    return words ^ (words >> np.uint64(33))
