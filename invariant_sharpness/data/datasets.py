"""A data set that is the same set of examples on every pass, in the form that an adapter gives to its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from invariant_sharpness.data.batches import Batches
from invariant_sharpness.data.examples import batch_size
from invariant_sharpness.data.fingerprints import fingerprint
from invariant_sharpness.data.random_states import random_state
from invariant_sharpness.data.subsets import chosen_examples
from invariant_sharpness.errors import DataError

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
        From one of the adapter's to arrays on the host, with one row per example.
    expected
        Fingerprint of the set of examples, compared on every pass; None for data that lie in memory.
    """

    batches: Batches
    convert: Callable[[Any], T]
    rows: Callable[[T], Sequence[npt.NDArray[Any]]]
    expected: int | None = None

    def __iter__(self) -> Iterator[T]:
        seen, empty = 0, True
        for given in self.batches:
            batch, empty = self.convert(given), False
            if self.expected is not None:
                seen += fingerprint(self.rows(batch))
            yield batch
        if self.expected is not None and seen % 2**64 != self.expected:
            raise DataError(_CHANGED)
        if empty:
            msg = "the data are empty: there is no batch to measure on; pass at least one example"
            raise DataError(msg)

    def subset(self, examples: Sequence[int]) -> Dataset[T]:
        """The examples with these numbers in a pass, held in memory."""
        return Dataset(Batches(chosen_examples(self, examples), static=True), self.convert, self.rows)

    def count(self) -> int:
        """How many examples there are in a pass."""
        return sum(batch_size(batch) for batch in self)


def checked_dataset(
    batches: Batches,
    convert: Callable[[Any], T],
    rows: Callable[[T], Sequence[npt.NDArray[Any]]],
    fixed_state: Callable[[int], AbstractContextManager[None]] = random_state,
) -> Dataset[T]:
    """A data set that is known not to change: what is not in memory is read twice, with different random states.

    Parameters
    ----------
    batches, convert, rows
        As in :class:`Dataset`.
    fixed_state
        Fixes the state of all random generators that a loader may draw from, by a seed.

    Raises
    ------
    DataError
        If the two passes have different examples, or there are none.
    """
    dataset = Dataset(batches, convert, rows)
    if batches.static:
        return dataset
    prints = []
    for seed in (1, 2):
        with fixed_state(seed):
            prints.append(sum(fingerprint(rows(batch)) for batch in dataset) % 2**64)
    if prints[0] != prints[1]:
        raise DataError(_CHANGED)
    return replace(dataset, expected=prints[0])


_CHANGED = (
    "the data change from pass to pass, so there is no one loss to measure: switch off random augmentation, and "
    "shuffling together with dropping the last batch (shuffle=True, drop_last=True; shuffling alone does no harm)"
)
