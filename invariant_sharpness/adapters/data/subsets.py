"""Some of the examples of a data set, held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from invariant_sharpness.adapters.data.examples import (
    Batch,
    batch_size,
    choose,
    is_per_example,
    leaves,
    map_leaves,
    split_batch,
    take,
)
from invariant_sharpness.errors import DataError


def chosen_examples(batches: Iterable[Any], examples: Sequence[int]) -> list[Any]:
    """The examples with these numbers in one pass over the batches, in batches as large as the first.

    They are joined before they are cut, so that subsets of one size have batches of the same shapes; examples of
    different shapes stay in the batches that they came in.

    Raises
    ------
    DataError
        If there is no example with one of the numbers, or there are no numbers.
    """
    wanted = _numbers(examples)
    parts: list[Any] = []
    sizes: list[int] = []
    for batch in batches:
        start, size = sum(sizes), batch_size(batch)
        rows = wanted[(wanted >= start) & (wanted < start + size)] - start
        sizes.append(size)
        if len(rows):
            parts.append(choose(batch, rows))
    require_examples(examples, sum(sizes))
    if len({_form(part) for part in parts}) > 1:
        return parts
    joined = _joined(parts)
    return [take(joined, start, start + sizes[0]) for start in range(0, len(wanted), sizes[0])]


def require_examples(examples: Sequence[int], total: int) -> npt.NDArray[np.int64]:
    """Return the numbers of some of ``total`` examples in order, each once.

    Raises
    ------
    DataError
        If there is no example with one of the numbers, or there are no numbers.
    """
    wanted = _numbers(examples)
    if len(wanted) == 0 or wanted[0] < 0 or wanted[-1] >= total:
        msg = (
            f"examples are numbered from 0 to {total - 1}, and a subset has at least one of them; got {list(examples)}"
        )
        raise DataError(msg)
    return wanted


def _numbers(examples: Sequence[int]) -> npt.NDArray[np.int64]:
    numbers = np.asarray(examples)
    if numbers.size and numbers.dtype.kind not in "iu":
        msg = f"a subset is given by the numbers of its examples, which are integers, and not by {numbers.dtype}: of a mask, np.flatnonzero(mask)"
        raise DataError(msg)
    return np.unique(numbers.astype(np.int64))


def joined_by_form(batches: Iterable[Any]) -> list[Any]:
    """The same examples in one batch for each shape of an example."""
    parts: dict[str, list[Any]] = {}
    for batch in batches:
        parts.setdefault(_form(batch), []).append(batch)
    return [_joined(alike) for alike in parts.values()]


def one_of_each_form(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield the first batch for each shape of an example."""
    known: set[str] = set()
    for batch in batches:
        if (form := _form(batch)) not in known:
            known.add(form)
            yield batch


def all_examples(batches: Iterable[Any]) -> Batch:
    """All inputs and all targets of one pass, each in one array or nest of arrays.

    Raises
    ------
    DataError
        If examples have different shapes.
    """
    parts = list(batches)
    if len(forms := {_form(part) for part in parts}) > 1:
        msg = f"examples of different shapes cannot be put into one batch: {' and '.join(sorted(forms))}"
        raise DataError(msg)
    return split_batch(_joined(parts))


def _form(part: Any) -> str:
    """The shapes of an example."""
    return str([tuple(getattr(leaf, "shape", ())[1:]) for leaf in leaves(part)])


def _joined(parts: Sequence[Any]) -> Any:
    first, sizes = parts[0], [batch_size(part) for part in parts]
    columns = iter(list(zip(*(leaves(part) for part in parts), strict=True)))

    def join(leaf: Any) -> Any:
        column = next(columns)
        if not is_per_example(leaf, sizes[0]):
            return leaf
        return array_namespace(leaf).concat(list(column), axis=0)

    return map_leaves(join, first)
