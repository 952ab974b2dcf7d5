"""Data sets as users have them, made into batches that can be read again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from numbers import Integral
from typing import Any, cast

from invariant_sharpness.adapters.data.endings import Remembered, check_end, check_max_examples
from invariant_sharpness.adapters.data.examples import batch_size as batch_size_of
from invariant_sharpness.adapters.data.examples import is_pair, leaves, take
from invariant_sharpness.adapters.data.kinds import require_array_of_targets, require_arrays
from invariant_sharpness.errors import DataError


@dataclass(frozen=True, slots=True)
class Batches:
    """A data set that yields the same batches, up to their order, whenever it is iterated over.

    Parameters
    ----------
    source
        What is iterated over.
    static
        Whether it lies in memory, so that it cannot change by itself.
    microbatch
        What is yielded has at most so many examples: larger batches are cut. None leaves them as they are.
    form
        What is done to every batch that is yielded; nothing by default.
    max_examples
        The data set are so many first examples, of which batches may be the first ones; None for all.
    """

    source: Iterable[Any]
    static: bool
    microbatch: int | None = None
    form: Callable[[Any], Any] | None = None
    max_examples: int | None = None

    @property
    def known(self) -> int:
        """How many there are; zero where that is not known before they are read."""
        try:
            return len(cast(Sized, self.source)) if self.microbatch is None else 0
        except TypeError:
            return 0

    def __iter__(self) -> Iterator[Any]:
        pieces = self.source if self.microbatch is None else self._cut(self.microbatch)
        return iter(pieces) if self.form is None else map(self.form, pieces)

    def _cut(self, size: int) -> Iterator[Any]:
        return (piece for batch in self.source for piece in _pieces(batch, size))


def as_batches(data: Any, batch_size: int, microbatch: int | None = None, max_examples: int | None = None) -> Batches:
    """Accept ``(x, y)``, one dictionary, a list of batches, or any object that can be iterated over again.

    ``(x, y)``, where y may be a tuple or dictionary of arrays, is cut into batches of ``batch_size`` examples; batches that users made are left as they are, or cut into
    pieces of at most ``microbatch`` examples. Of an iterator, what ``max_examples`` asks for is held in memory.

    Raises
    ------
    DataError
        For a generator or iterator without ``max_examples``, which is empty after one pass; for data that never end, and for what is no data
        set at all.
    """
    check_max_examples(max_examples)
    for name, size in {"batch_size": batch_size, "microbatch": microbatch}.items():
        if not ((isinstance(size, Integral) and int(size) >= 1) or (name == "microbatch" and size is None)):
            msg = f"{name}={size!r}, but a batch has at least one example, and an integer says how many"
            raise DataError(msg)
    if isinstance(data, tuple):
        require_array_of_targets(data)
    if is_pair(data):
        require_arrays(data)
        return Batches(_slices(data, batch_size), static=True, microbatch=microbatch, max_examples=max_examples)
    if isinstance(data, Mapping):
        return Batches([data], static=True, microbatch=microbatch, max_examples=max_examples)
    if max_examples is None:
        check_end(data)
    elif isinstance(data, Iterator):
        return Batches(Remembered(data), static=True, microbatch=microbatch, max_examples=max_examples)
    if isinstance(data, Iterator):
        msg = (
            f"data is a one-shot {type(data).__name__}: it is empty after one pass, and curvature takes many. "
            f"Pass list(data), a data loader, or an object whose __iter__ starts anew; or max_examples=n, and the first n examples are "
            f"held in memory"
        )
        raise DataError(msg)
    if not isinstance(data, Iterable):
        msg = (
            f"data of type {type(data).__name__} cannot be iterated over: pass (x, y) arrays, a list of batches, or "
            f"a data loader (for a map-style torch data set: torch.utils.data.DataLoader(data, batch_size=...))"
        )
        raise DataError(msg)
    return Batches(data, static=isinstance(data, Sequence), microbatch=microbatch, max_examples=max_examples)


def _pieces(batch: Any, size: int) -> Iterator[Any]:
    """A batch without examples stays one, for the message."""
    starts = range(0, max(batch_size_of(batch), 1), size)
    return (take(batch, start, start + size) for start in starts)


def _slices(pair: Any, batch_size: int) -> list[Any]:
    single = next((leaf for leaf in leaves(pair) if not getattr(leaf, "shape", ())), None)
    if single is not None:
        msg = (
            f"inputs and targets contain a single {type(single).__name__} instead of arrays with one row per example: "
            f"convert lists of numbers into arrays"
        )
        raise DataError(msg)
    sizes = list(dict.fromkeys(leaf.shape[0] for leaf in leaves(pair)))
    if len(sizes) != 1:
        msg = f"inputs and targets have different numbers of examples: {', '.join(map(str, sizes))}"
        raise DataError(msg)
    (size,) = sizes
    return [take(pair, start, start + batch_size) for start in range(0, size, batch_size)]
