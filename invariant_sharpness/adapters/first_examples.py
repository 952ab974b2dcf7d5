"""Some examples of the data: the first of a pass, the same ones in the same order every time, and evenly spread ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from invariant_sharpness.adapters.data import Dataset, batch_size, joined_by_form, take
from invariant_sharpness.adapters.shares import Share
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


def tested_examples(total: int) -> int:
    """On how many of all examples the outputs are differentiated twice: a sixteenth, but at least 64 and at most 128.

    A part, so that the test stays cheap beside a pass over the data; and no more than what shows a kind of examples that makes up
    three in a hundred with a probability of 98 %.
    """
    return min(max(total // 16, 64), 128)


class SpreadExamples:
    """Examples at equal distances in the data, so that what is sorted, as sequences are by their length, is met in all its kinds.

    Parameters
    ----------
    dataset
        Batches of the engine.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset
        self._held: dict[int, Dataset[Any]] = {}

    def examples(self, wanted: int, share: Share) -> tuple[Dataset[Any], int]:
        """Return those of so many examples of all that are here, held in memory, and the number of their first among these.

        All that are here, if there are no more than that. Those of one form are joined, since every shape is compiled anew on some engines.
        Cost: one pass over the data, without the model, when they are first asked for.
        """
        if wanted >= share.total:
            return self._dataset, share.start
        numbers = (2 * np.arange(wanted) + 1) * share.total // (2 * wanted)
        if wanted not in self._held:
            part = self._dataset.subset(share.here(numbers).tolist())
            self._held[wanted] = part.holding(joined_by_form(part))
        return self._held[wanted], int(np.sum(numbers < share.start))
