"""Where a pass over the data ends: after as many examples as were asked for, or where the data end, if they do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, cycle, islice, repeat
from numbers import Integral
from typing import Any, Generic, TypeVar

from invariant_sharpness.adapters.data.examples import batch_size, take
from invariant_sharpness.errors import DataError

T = TypeVar("T")

MOST_EXAMPLES = 20_000_000
"""So many examples are read of data that do not tell their length: more than ImageNet-21k has. Then they count as endless."""

_TAKE_FIRST = "pass max_examples=n to measure on the first n examples"


class Remembered(Generic[T]):
    """What has been read of an iterator, and what follows it: it can be iterated over again and again.

    Parameters
    ----------
    iterator
        It is read no further than somebody asks for.

    Examples
    --------
    >>> from itertools import count, islice
    >>> numbers = Remembered(count())
    >>> list(islice(numbers, 2)), list(islice(numbers, 3))
    ([0, 1], [0, 1, 2])
    """

    def __init__(self, iterator: Iterator[T]) -> None:
        self._iterator = iterator
        self._read: list[T] = []

    def __iter__(self) -> Iterator[T]:
        position = 0
        while position < len(self._read) or self._reads_one():
            yield self._read[position]
            position += 1

    def _reads_one(self) -> bool:
        """Read one more, if there is one."""
        read = list(islice(self._iterator, 1))
        self._read += read
        return bool(read)


def first_examples(batches: Iterable[Any], source: object, most: int | None) -> Iterator[Any]:
    """Yield batches up to this number of examples, of which the last is cut; all of them for None.

    Raises
    ------
    DataError
        If there is no such number, and after ``MOST_EXAMPLES`` no end of data whose length nobody knows.
    """
    seen, bound = 0, most if most is not None else None if _tells_length(source) else MOST_EXAMPLES
    for batch in batches:
        if bound is None:
            yield batch
            continue
        size = batch_size(batch)
        yield batch if seen + size <= bound else take(batch, 0, bound - seen)
        seen += size
        if seen >= bound:
            break
    if most is None and bound is not None and seen >= bound:
        raise DataError(_without_end(source))


def check_max_examples(most: object) -> None:
    """Raise :class:`DataError` unless this is a number of examples, or None."""
    if most is not None and not (isinstance(most, Integral) and not isinstance(most, bool) and int(most) >= 1):
        msg = f"max_examples={most!r}, but it is how many examples are measured on at most: an integer, at least one"
        raise DataError(msg)


def check_end(data: object) -> None:
    """Raise :class:`DataError` if it is known that the data never end: iterators that repeat, and data sets of TensorFlow with ``repeat()``."""
    cardinality = getattr(data, "cardinality", None)
    repeats = callable(cardinality) and cardinality() == -1
    if repeats or isinstance(data, (cycle, count, repeat)):
        cause = "repeat()" if repeats else f"itertools.{type(data).__name__}"
        msg = f"the data never end, because of {cause}: leave it out, or {_TAKE_FIRST}"
        raise DataError(msg)


def _tells_length(source: object) -> bool:
    """Whether it has a length: a loader of a stream has the method, which raises."""
    try:
        len(source)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def _without_end(source: object) -> str:
    return (
        f"the data of type {type(source).__name__} do not end after {MOST_EXAMPLES:,} examples, and have no length: {_TAKE_FIRST}, or as "
        f"many as there are"
    )
