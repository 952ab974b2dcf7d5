"""The first examples of a pass over the data: the same ones in the same order on every pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from invariant_sharpness.adapters.data import Dataset, batch_size, take
from invariant_sharpness.errors import DataError


class FirstExamples:
    """Reads the first examples of a pass, and remembers those of data that do not lie in memory.

    Parameters
    ----------
    dataset
        Batches of the engine.
    whole
        Whether batches stay whole: one that is cut has another shape, for which everything would be compiled again.
    """

    def __init__(self, dataset: Dataset[Any], *, whole: bool) -> None:
        self._dataset = dataset
        self._whole = whole
        self._known: list[int] = []

    def batches(self, examples: int) -> Iterator[Any]:
        """Yield batches until they hold so many examples, or there are no more; the last is cut, unless batches stay whole.

        Raises
        ------
        DataError
            If an example is not what it was on an earlier pass.
        """
        seen = 0
        for batch in self._dataset if examples > 0 else ():
            wanted = take(batch, 0, examples - seen)
            if not self._dataset.batches.static:
                self._compare(wanted, seen)
            yield batch if self._whole else wanted
            seen += batch_size(batch)
            if seen >= examples:
                return

    def _compare(self, examples: Any, start: int) -> None:
        arrays = self._dataset.rows(examples)
        found = [hash(tuple(array[row].tobytes() for array in arrays)) for row in range(batch_size(examples))]
        known = self._known[start : start + len(found)]
        if found[: len(known)] != known:
            msg = (
                "the data come in another order on every pass, but outputs and their Jacobian are those of the first "
                "examples: switch off shuffling, or pass a list of batches (of a tf.data.Dataset: "
                "shuffle(..., reshuffle_each_iteration=False))"
            )
            raise DataError(msg)
        self._known += found[len(known) :]
