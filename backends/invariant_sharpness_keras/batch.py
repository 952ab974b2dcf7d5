"""A batch, as users have it, as arrays on the host: inputs and targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from invariant_sharpness.data import leaves, map_leaves
from invariant_sharpness.errors import DataError, NonFiniteError
from invariant_sharpness_keras.engines import Array


class Batch(NamedTuple):
    """Some examples.

    Parameters
    ----------
    inputs
        An array, or a nest of arrays, with one row per example.
    targets
        One row per example.
    """

    inputs: Any
    targets: Array

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self.targets)

    def take(self, start: int, stop: int) -> Batch:
        """Some of the examples."""
        return Batch(map_leaves(lambda leaf: leaf[start:stop], self.inputs), self.targets[start:stop])


def host_batch(batch: Any, dtype: np.dtype[Any]) -> Batch:
    """The batch as NumPy arrays; floating-point ones in ``dtype``.

    Raises
    ------
    DataError
        If it is neither ``(inputs, targets)`` nor a dictionary with ``"labels"``, or the rows differ in number.
    """
    inputs, targets = _split(batch)
    host = Batch(map_leaves(lambda leaf: _host(leaf, dtype), inputs), _host(targets, dtype))
    sizes = {leaf.shape[:1] for leaf in leaves(host)}
    if () in sizes or len(sizes) != 1:
        shapes = ", ".join(str(leaf.shape) for leaf in leaves(host))
        msg = f"inputs and targets need one row per example, the same number in all; their shapes are {shapes}"
        raise DataError(msg)
    return host


def check_batch(batch: Batch, index: int) -> None:
    """Raise if the batch is empty, or an entry is NaN or infinite."""
    if batch.examples == 0:
        msg = f"batch {index} is empty: leave it out"
        raise DataError(msg)
    for position, leaf in enumerate(leaves(batch)):
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            example = int(np.argmin(np.isfinite(leaf.reshape(len(leaf), -1)).all(axis=1)))
            msg = (
                f"array {position} of batch {index} (shape {leaf.shape}) has NaN or infinite entries, "
                f"first in example {example}: clean the data"
            )
            raise NonFiniteError(msg)


def _split(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        if "labels" not in batch:
            msg = f"a dictionary batch has the keys {', '.join(map(repr, batch))}, but no 'labels': rename the targets"
            raise DataError(msg)
        return {key: value for key, value in batch.items() if key != "labels"}, batch["labels"]
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and hasattr(batch[1], "shape"):
        return batch[0], batch[1]
    if isinstance(batch, (tuple, list)) and len(batch) == 3:
        msg = "a batch has three parts, but sample weights are not supported: yield (inputs, targets)"
        raise DataError(msg)
    msg = f"a batch is a {type(batch).__name__}, but it has to be (inputs, targets) or a dictionary with 'labels'"
    raise DataError(msg)


def _host(leaf: Any, dtype: np.dtype[Any]) -> Array:
    on_cpu = leaf.detach().cpu() if hasattr(leaf, "detach") else leaf
    array = np.asarray(on_cpu)
    return array.astype(dtype) if array.dtype.kind == "f" else array
