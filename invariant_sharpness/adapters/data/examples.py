"""Nests of arrays: dictionaries, tuples and lists, in which users keep the parts of a batch.

The examples of a batch: how many there are, some of them, and which part of them is the targets.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, is_jax_array

from invariant_sharpness.errors import DataError

Leaf = Any


def map_leaves(function: Callable[[Leaf], Any], tree: Any) -> Any:
    """Apply ``function`` to every leaf of nested dictionaries, tuples and lists; named tuples and ``UserDict`` keep their types."""
    if isinstance(tree, Mapping):
        mapped = {key: map_leaves(function, value) for key, value in tree.items()}
        return _of_same_type(tree, mapped) if isinstance(tree, UserDict) else mapped
    if isinstance(tree, (tuple, list)):
        parts = [map_leaves(function, value) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return function(tree)


def _of_same_type(tree: UserDict[Any, Any], entries: dict[Any, Any]) -> UserDict[Any, Any]:
    """A dictionary of the user's own class, such as that of a tokenizer, with its other attributes and these entries."""
    part = copy(tree)
    part.data = entries
    return part


def plain(tree: Any) -> Any:
    """Return the nest with dictionaries in the place of those of the user's own classes."""
    if isinstance(tree, Mapping):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [plain(value) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree


def leaves(tree: Any) -> list[Leaf]:
    """All leaves of nested dictionaries, tuples and lists, in order."""
    if isinstance(tree, Mapping):
        return [leaf for value in tree.values() for leaf in leaves(value)]
    if isinstance(tree, (tuple, list)):
        return [leaf for value in tree for leaf in leaves(value)]
    return [tree]


class Batch(NamedTuple):
    """Some examples.

    Parameters
    ----------
    inputs
        An array or a nest of arrays. Their first axis counts examples, if it is as long as there are examples.
    targets
        An array with one row per example, or a nest of them.
    """

    inputs: Any
    targets: Any

    @property
    def examples(self) -> int:
        """Number of examples."""
        return batch_size(self)

    def take(self, start: int, stop: int) -> Batch:
        """Some of the examples."""
        part: Batch = take(self, start, stop)
        return part


class WeightedTargets(NamedTuple):
    """Targets with weights, of a batch that has three parts.

    Parameters
    ----------
    targets
        An array with one row per example.
    weights
        One number for each example, or for each row of the loss.
    """

    targets: Any
    weights: Any


def is_pair(data: Any) -> bool:
    """Whether ``data`` is ``(inputs, targets)`` and not two batches: its targets are an array, or are not nested as its inputs are."""
    if not is_split(data):
        return False
    inputs, targets = data
    if _is_array(targets) or isinstance(targets, WeightedTargets) or _is_array(inputs):
        return True
    return isinstance(inputs, Mapping) != isinstance(targets, Mapping)


def is_split(batch: Any) -> bool:
    """Whether a batch is ``(inputs, targets)``; both may be nests of arrays."""
    return isinstance(batch, (tuple, list)) and len(batch) == 2 and any(map(_is_array, leaves(batch[1])))


def weighted_pair(data: Any) -> Any:
    """Return ``(inputs, targets)`` of ``(inputs, targets, weights)``; anything else as it is."""
    if isinstance(data, (tuple, list)) and len(data) == 3 and all(hasattr(part, "shape") for part in data[1:]):
        return Batch(data[0], WeightedTargets(*data[1:]))
    return data


def split_batch(batch: Any, otherwise: str = "") -> Batch:
    """Inputs and targets of ``(inputs, targets)``, or of a dictionary with the key ``"labels"``.

    Parameters
    ----------
    batch
        In one of these forms.
    otherwise
        What else users can do, for the message.

    Raises
    ------
    DataError
        If the batch is in another form.
    """
    if is_split(batch):
        return Batch(*batch)
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and not isinstance(batch[1], (tuple, list, Mapping)):
        msg = (
            f"the targets of a batch are a {type(batch[1]).__name__} instead of an array: convert them by np.asarray, or number the "
            f"classes if they are names{otherwise}"
        )
        raise DataError(msg)
    if not isinstance(batch, Mapping):
        parts = f" of {len(batch)} parts" if isinstance(batch, (tuple, list)) else ""
        msg = (
            f"a batch is a {type(batch).__name__}{parts}, but it has to be (inputs, targets) or a dictionary with "
            f"'labels'{otherwise}; several inputs or targets are tuples or dictionaries of arrays"
        )
        raise DataError(msg)
    if "labels" not in batch:
        keys = ", ".join(map(repr, batch))
        msg = f"a dictionary batch has the keys {keys}, but no 'labels': rename the targets{otherwise}"
        raise DataError(msg)
    return Batch({key: value for key, value in batch.items() if key != "labels"}, batch["labels"])


def batch_size(batch: Any) -> int:
    """Number of examples: the length of the first array that has one.

    Raises
    ------
    DataError
        If there is no such array.
    """
    sizes = [leaf.shape[0] for leaf in leaves(batch) if _has_rows(leaf)]
    if not sizes:
        msg = "a batch holds no array with an axis of examples: yield (inputs, targets) or a dictionary of arrays"
        raise DataError(msg)
    return int(sizes[0])


def has_examples(batch: Any) -> bool:
    """Whether a batch has an array with an axis of examples: one of a framework's own containers has none before it is converted."""
    return any(map(_has_rows, leaves(batch)))


def is_per_example(leaf: Leaf, size: int) -> bool:
    """Whether a leaf of a batch is an array with one row for each of ``size`` examples."""
    return _has_rows(leaf) and bool(leaf.shape[0] == size)


def host_rows(batch: Any) -> list[npt.NDArray[Any]] | None:
    """Return the arrays of numbers of a user's batch, with one row per example; None if there is none, one does not lie on the host, or NumPy does not know its type."""
    if not has_examples(batch):
        return None
    size = batch_size(batch)
    rows = [leaf for leaf in leaves(batch) if is_per_example(leaf, size)]
    if not all(map(_lies_on_host, rows)):
        return None
    try:
        arrays = [np.asarray(leaf) for leaf in rows]
    except TypeError:  # bfloat16 of torch
        return None
    return arrays if all(array.dtype.kind in _NUMBERS for array in arrays) else None


_NUMBERS = "biufc"


def _lies_on_host(leaf: Leaf) -> bool:
    """Whether NumPy sees the numbers of an array without a copy: of its own arrays, and of torch's on the CPU."""
    return isinstance(leaf, np.ndarray) or getattr(getattr(leaf, "device", None), "type", "") == "cpu"


def take(batch: Any, start: int, stop: int) -> Any:
    """Some examples of a batch; what is not one row per example is left as it is."""
    size = batch_size(batch)
    return map_leaves(lambda leaf: leaf[start:stop] if is_per_example(leaf, size) else leaf, batch)


def choose(batch: Any, rows: npt.NDArray[np.intp]) -> Any:
    """The examples with these numbers in a batch; what is not one row per example is left as it is."""
    size = batch_size(batch)
    return map_leaves(lambda leaf: _rows_of(leaf, rows) if is_per_example(leaf, size) else leaf, batch)


def _rows_of(leaf: Leaf, rows: npt.NDArray[np.intp]) -> Leaf:
    """The rows with these numbers: of JAX's arrays by one operation, where an index makes a dozen, each compiled for itself."""
    return array_namespace(leaf).take(leaf, rows, axis=0) if is_jax_array(leaf) else leaf[rows]


def _has_rows(leaf: Leaf) -> bool:
    return getattr(leaf, "ndim", 0) > 0


def _is_array(leaf: Leaf) -> bool:
    return hasattr(leaf, "shape")
