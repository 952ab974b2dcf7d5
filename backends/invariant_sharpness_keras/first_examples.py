"""The first examples of a pass over the data, the same ones in the same order on every pass."""

from __future__ import annotations

from collections.abc import Iterator

from invariant_sharpness.adapters.data import Batch
from invariant_sharpness.errors import DataError
from invariant_sharpness_keras.dataset import Dataset


class FirstExamples:
    """Cuts the first examples out of a pass, and remembers those of data that are not in memory.

    The order of a ``tf.data.Dataset`` with ``shuffle()`` comes from a random state that nobody can restore.

    Parameters
    ----------
    dataset
        Batches on the host.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._known: list[int] = []

    def batches(self, examples: int) -> Iterator[Batch]:
        """The first ``examples`` of them, or all if there are fewer, batch by batch.

        Raises
        ------
        DataError
            If an example is not what it was on an earlier pass.
        """
        if examples < 1:
            return
        seen = 0
        for batch in self._dataset:
            part = batch.take(0, examples - seen)
            if not self._dataset.batches.static:
                self._compare(part, seen)
            yield part
            seen += part.examples
            if seen >= examples:
                return

    def _compare(self, part: Batch, start: int) -> None:
        arrays = self._dataset.rows(part)
        found = [hash(tuple(array[row].tobytes() for array in arrays)) for row in range(part.examples)]
        known = self._known[start : start + len(found)]
        if found[: len(known)] != known:
            msg = (
                "the data come in another order on every pass, but outputs and their Jacobian are those of the first "
                "examples: switch off shuffling (of a tf.data.Dataset: shuffle(..., reshuffle_each_iteration=False))"
            )
            raise DataError(msg)
        self._known += found[len(known) :]
