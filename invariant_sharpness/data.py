"""Data sets as users have them: made into batches that can be read again and again, and watched for changes.

Nothing here knows a framework: an adapter says how an array leaf is seen from NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import DataError

Leaf = Any


@dataclass(frozen=True, slots=True)
class Batches:
    """A data set that yields the same batches, up to their order, whenever it is iterated over.

    Parameters
    ----------
    source
        What is iterated over.
    static
        Whether it lies in memory, so that it cannot change by itself.
    """

    source: Iterable[Any]
    static: bool

    def __iter__(self) -> Iterator[Any]:
        return iter(self.source)


def as_batches(data: Any, batch_size: int) -> Batches:
    """Accept ``(x, y)``, one dictionary, a list of batches, or any object that can be iterated over again.

    ``(x, y)`` is cut into batches of ``batch_size`` examples; batches that users made are left as they are.

    Raises
    ------
    DataError
        For a generator or iterator, which is empty after one pass, and for what is no data set at all.
    """
    if batch_size < 1:
        msg = f"batch_size={batch_size}, but a batch has at least one example"
        raise DataError(msg)
    if is_pair(data):
        return Batches(_slices(data, batch_size), static=True)
    if isinstance(data, Mapping):
        return Batches([data], static=True)
    if isinstance(data, Iterator):
        msg = (
            f"data is a one-shot {type(data).__name__}: it is empty after one pass, and curvature takes many. "
            f"Pass list(data), a data loader, or an object whose __iter__ starts anew"
        )
        raise DataError(msg)
    if not isinstance(data, Iterable):
        msg = (
            f"data of type {type(data).__name__} cannot be iterated over: pass (x, y) arrays, a list of batches, or "
            f"a data loader (for a map-style torch data set: torch.utils.data.DataLoader(data, batch_size=...))"
        )
        raise DataError(msg)
    return Batches(data, static=isinstance(data, Sequence))


def is_pair(data: Any) -> bool:
    """Whether ``data`` is ``(inputs, targets)``: its second part is an array."""
    return isinstance(data, (tuple, list)) and len(data) == 2 and hasattr(data[1], "shape")


def map_leaves(function: Callable[[Leaf], Any], tree: Any) -> Any:
    """Apply ``function`` to every leaf of nested dictionaries, tuples and lists; named tuples keep their names."""
    if isinstance(tree, Mapping):
        return {key: map_leaves(function, value) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [map_leaves(function, value) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return function(tree)


def leaves(tree: Any) -> list[Leaf]:
    """All leaves of nested dictionaries, tuples and lists, in order."""
    if isinstance(tree, Mapping):
        return [leaf for value in tree.values() for leaf in leaves(value)]
    if isinstance(tree, (tuple, list)):
        return [leaf for value in tree for leaf in leaves(value)]
    return [tree]


def fingerprint(examples: Sequence[npt.NDArray[Any]]) -> int:
    """A number that depends on the set of examples, but not on their order or on the batches.

    ``examples`` are arrays with one row per example. The fingerprint of a data set is the sum over its
    batches, modulo 2**64.
    """
    rows = examples[0].shape[0]
    mixed = np.zeros(rows, dtype=np.uint64)
    for array in examples:
        mixed = _mix(mixed * np.uint64(0x9E3779B97F4A7C15) + _row_hashes(array, rows))
    return int(np.sum(mixed, dtype=np.uint64))


def _slices(pair: Any, batch_size: int) -> list[Any]:
    single = next((leaf for leaf in leaves(pair) if not getattr(leaf, "shape", ())), None)
    if single is not None:
        msg = (
            f"inputs and targets contain a single {type(single).__name__} instead of arrays with one row per example: "
            f"convert lists of numbers into arrays"
        )
        raise DataError(msg)
    sizes = {leaf.shape[0] for leaf in leaves(pair)}
    if len(sizes) != 1:
        msg = f"inputs and targets have different numbers of examples: {', '.join(map(str, sorted(sizes)))}"
        raise DataError(msg)
    (size,) = sizes
    return [_part(pair, start, start + batch_size) for start in range(0, size, batch_size)]


def _part(tree: Any, start: int, stop: int) -> Any:
    return map_leaves(lambda leaf: leaf[start:stop], tree)


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
