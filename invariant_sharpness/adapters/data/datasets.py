"""A number for a set of examples, by which a data set is known again.

The random state of Python and NumPy, from which a data loader may draw.

A data set that is the same set of examples on every pass, in the form that an adapter gives to its batches.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.data.batches import Batches
from invariant_sharpness.adapters.data.endings import first_examples
from invariant_sharpness.adapters.data.examples import batch_size, host_rows
from invariant_sharpness.adapters.data.kinds import require_arrays
from invariant_sharpness.adapters.data.subsets import chosen_examples
from invariant_sharpness.errors import DataError


def fingerprint(examples: Sequence[npt.NDArray[Any]]) -> int:
    """A number that depends on the set of examples, but not on their order or on the batches.

    ``examples`` are arrays with one row per example. The fingerprint of a data set is the sum over its
    batches, modulo 2**64.
    """
    return int(np.sum(digests(examples), dtype=np.uint64))


def digests(examples: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.uint64]:
    """Return a number for each example: equal examples have equal ones, and others, but for one pair in 2**64, do not."""
    rows = len(examples[0]) if examples else 0
    mixed = np.zeros(rows, dtype=np.uint64)
    for array in examples if rows else ():
        mixed = _mix(mixed * np.uint64(0x9E3779B97F4A7C15) + _row_hashes(array, rows))
    return mixed


def rounded(examples: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """The examples in the precision that they have in every model: numbers in single precision, and integers in 64 bits."""
    with np.errstate(over="ignore"):
        return [array.astype(_COMMON.get(array.dtype.kind, array.dtype)) for array in examples]


_COMMON = {"b": np.int64, "i": np.int64, "u": np.int64, "f": np.float32, "V": np.float32}
"""Of each kind of dtype the common one; bfloat16 of JAX, which NumPy does not know itself, is of the kind V."""


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


PASS_SEED = 0x5EED
"""The seed of every pass over the data: a loader that shuffles repeats its order, so that equal arguments give equal results."""


@contextmanager
def random_state(seed: int = PASS_SEED) -> Generator[None]:
    """Start from a fixed random state, and restore the user's."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's global state is kept
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


T = TypeVar("T")
"""A batch, as an adapter computes with it."""


@dataclass(frozen=True, slots=True)
class Dataset(Generic[T]):
    """Batches that are watched for changes.

    Parameters
    ----------
    batches
        The user's data.
    convert
        From a batch of the user's to one of the adapter's.
    rows
        From one of the adapter's to arrays on the host, with one row per example; asked for batches of which the user's own lie elsewhere.
    expected
        Fingerprint of the set of examples, compared on every pass; None for data that lie in memory.
    may_be_empty
        Whether these are a part of the data, beside which there are others.
    """

    batches: Batches
    convert: Callable[[Any], T]
    rows: Callable[[T], Sequence[npt.NDArray[Any]]]
    expected: int | None = None
    may_be_empty: bool = False

    def __iter__(self) -> Iterator[T]:
        seen = 0
        for given, batch in self._pairs():
            if self.expected is not None:
                seen += self._print(given, batch)
            yield batch
        if self.expected is not None and seen % 2**64 != self.expected:
            raise DataError(_CHANGED)

    def fingerprint(self) -> int:
        """Return a number for the set of examples. Cost: one pass over the data, without the model."""
        return sum(self._print(given, batch) for given, batch in self._pairs()) % 2**64

    def _pairs(self) -> Iterator[tuple[Any, T]]:
        """Every batch, as the user gives it and as the adapter computes with it; None for the former of one that is cut."""
        pair: tuple[Any, Any] = (None, None)

        def converted() -> Iterator[T]:
            nonlocal pair
            for given in self.batches:
                require_arrays(given)
                pair = given, self.convert(given)
                yield pair[1]

        empty = True
        for batch in first_examples(converted(), self.batches.source, self.batches.max_examples):
            empty = False
            yield (pair[0] if batch is pair[1] else None), batch
        if empty and not self.may_be_empty:
            raise no_examples()

    def _print(self, given: Any, batch: T) -> int:
        """The fingerprint of a batch: of the user's own arrays if they are on the host, so that nothing comes back from the device."""
        own = None if given is None else host_rows(given)
        return fingerprint(self.rows(batch) if own is None else own)

    def subset(self, examples: Sequence[int]) -> Dataset[T]:
        """The examples with these numbers in a pass, held in memory; none only of a part of the data."""
        return self.holding([] if self.may_be_empty and not examples else chosen_examples(self, examples))

    def holding(self, batches: Sequence[Any]) -> Dataset[T]:
        """These batches in the place of the user's, held in memory."""
        return replace(self, batches=Batches(batches, static=True), expected=None)

    def count(self) -> int:
        """How many examples there are in a pass."""
        return sum(batch_size(batch) for batch in self)


def checked_dataset(
    batches: Batches,
    convert: Callable[[Any], T],
    rows: Callable[[T], Sequence[npt.NDArray[Any]]],
    fixed_state: Callable[[int], AbstractContextManager[None]] = random_state,
    *,
    may_be_empty: bool = False,
) -> Dataset[T]:
    """A data set that is known not to change: what is not in memory is read twice, with different random states.

    Parameters
    ----------
    batches, convert, rows, may_be_empty
        As in :class:`Dataset`.
    fixed_state
        Fixes the state of all random generators that a loader may draw from, by a seed.

    Raises
    ------
    DataError
        If the two passes have different examples, or there are none.
    """
    dataset = Dataset(batches, convert, rows, may_be_empty=may_be_empty)
    if batches.static:
        return dataset
    prints = []
    for seed in (1, 2):
        with fixed_state(seed):
            prints.append(dataset.fingerprint())
    if prints[0] != prints[1]:
        raise DataError(_CHANGED)
    return replace(dataset, expected=prints[0])


def no_examples() -> DataError:
    """The error for data without a batch."""
    return DataError("the data are empty: there is no batch to measure on; pass at least one example")


_CHANGED = (
    "the data change from pass to pass, so there is no one loss to measure: switch off random augmentation, and "
    "shuffling together with dropping the last batch (shuffle=True, drop_last=True; shuffling alone does no harm)"
)
