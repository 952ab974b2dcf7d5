"""The first examples of a pass over the data, the same ones in the same order on every pass."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from invariant_sharpness.adapters.data import Batch, leaves
from invariant_sharpness.errors import DataError
from invariant_sharpness_jax.dataset import Dataset


class FirstExamples:
    """Reads the first examples of a pass in whole batches, and remembers the batches of data that are not in memory.

    Batches stay whole because one that is cut has another shape, for which all would be compiled again.

    Parameters
    ----------
    dataset
        Batches of arrays.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._known: list[int] = []

    def batches(self, examples: int) -> Iterator[Batch]:
        """Batches, until they hold so many examples or there are no more.

        Raises
        ------
        DataError
            If a batch is not what it was on an earlier pass.
        """
        if examples < 1:
            return
        seen = 0
        for index, batch in enumerate(self._dataset):
            if not self._dataset.batches.static:
                self._compare(index, batch)
            yield batch
            seen += batch.examples
            if seen >= examples:
                return

    def _compare(self, index: int, batch: Batch) -> None:
        found = hash(tuple(np.asarray(leaf).tobytes() for leaf in leaves(batch)))
        if index == len(self._known):
            self._known.append(found)
        if found != self._known[index]:
            msg = (
                "the data come in another order on every pass, but outputs and their Jacobian are those of the first "
                "examples: switch off shuffling, or pass a list of batches"
            )
            raise DataError(msg)
