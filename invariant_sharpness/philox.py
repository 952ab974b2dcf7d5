r"""The counter-based generator Philox4x64-10 in array operations, with the bits of NumPy's: random signs that are drawn where the arrays are.

Words of 64 bits are pairs of 32 bits. Each is held in a signed integer of 64 bits, or in an unsigned one of 32, with products by halves of 16 bits:
PyTorch computes with no unsigned integers but bytes, and JAX has no 64 bits unless it is told to.

Source: Salmon, Moraes, Dror and Shaw (2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate, pairwise
from operator import add
from typing import Any, NamedTuple, Protocol

from array_api_compat import device as device_of

Array = Any

_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_GROWTH = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
"""What is added to both words of the key after each round."""

_ROUNDS = 10
_WORD, _HALF = 2**32 - 1, 2**16 - 1
_SIGNS_PER_BLOCK = 256


class _Word(NamedTuple):
    """The upper and the lower 32 bits."""

    upper: Any
    lower: Any

    def __xor__(self, other: _Word) -> _Word:
        return _Word(self.upper ^ other.upper, self.lower ^ other.lower)


def signs(
    xp: Any, seed: int, streams: Sequence[int], index: int, sizes: Sequence[int], device: Any = None
) -> list[Array]:
    """Draw random signs, from each stream so many.

    They are the bits of ``np.random.Philox(key=[seed, stream], counter=[0, 0, index, 0])``, the lowest of each word first. All streams are drawn
    together: some hundred operations on arrays of an entry for every 256 signs, and then a few on those of each stream.

    Parameters
    ----------
    xp
        An array API namespace.
    seed, streams
        The words of the keys.
    index
        The third word of the counter.
    sizes
        How many signs are drawn from each stream.
    device
        Where they are made. Twenty numbers for each stream are copied there.

    Returns
    -------
    list
        For each stream an array of -1 and 1, integers of 8 bits.

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> [array.tolist() for array in signs(xp, 0, [0, 1], 0, [4, 2])]
    [[1, 1, -1, 1], [-1, 1]]
    """
    ends = list(accumulate((-(-size // _SIGNS_PER_BLOCK) for size in sizes), initial=0))
    if ends[-1] == 0:
        return [xp.zeros(0, dtype=xp.int8, device=device) for _ in sizes]
    octets = _octets(xp, _philox(xp, seed, streams, index, ends, device))
    return [
        _unpacked(xp, octets[start:end, ...], size) for (start, end), size in zip(pairwise(ends), sizes, strict=True)
    ]


def _philox(
    xp: Any, seed: int, streams: Sequence[int], index: int, ends: Sequence[int], device: Any
) -> tuple[_Word, ...]:
    """Return the four words of every block. The blocks of a stream are counted from 1, after those of the streams before it."""
    arithmetic = _arithmetic(xp)

    def constants(numbers: Sequence[int]) -> _Word:
        halves = ([n >> 32 & _WORD for n in numbers], [n & _WORD for n in numbers])
        return _Word(*(xp.asarray(half, dtype=arithmetic.dtype, device=device) for half in halves))

    # which stream a block belongs to, and the number of the block in it
    blocks = xp.arange(ends[-1], device=device)
    owner = xp.searchsorted(xp.asarray(ends[1:], dtype=blocks.dtype, device=device), blocks, side="right")
    number = blocks - xp.take(xp.asarray(ends[:-1], dtype=blocks.dtype, device=device), owner) + 1
    zero = constants([0])
    a, b, c, d = _Word(zero.upper, xp.astype(number, arithmetic.dtype)), zero, constants([index]), zero
    for turn in range(_ROUNDS):
        key = constants([seed + turn * _GROWTH[0]])
        table = constants([stream + turn * _GROWTH[1] for stream in streams])
        first, second = (_times(arithmetic, word, factor) for word, factor in zip((a, c), _MULTIPLIERS, strict=True))
        own = _Word(xp.take(table.upper, owner), xp.take(table.lower, owner))
        a, b, c, d = second[0] ^ b ^ key, second[1], first[0] ^ d ^ own, first[1]
    return a, b, c, d


class _Arithmetic(Protocol):
    """Exact arithmetic with 32 bits."""

    dtype: Any

    def product(self, a: Array, b: int) -> _Word:
        """Multiply numbers of 32 bits."""
        ...

    def total(self, *terms: Array) -> _Word:
        """Add numbers of 32 bits; the upper word is what is carried."""
        ...


def _times(arithmetic: _Arithmetic, word: _Word, factor: int) -> tuple[_Word, _Word]:
    """Return the upper and the lower 64 bits of a product."""
    upper, lower = factor >> 32, factor & _WORD
    low, cross = arithmetic.product(word.lower, lower), arithmetic.product(word.lower, upper)
    other, high = arithmetic.product(word.upper, lower), arithmetic.product(word.upper, upper)
    second = arithmetic.total(low.upper, cross.lower, other.lower)
    third = arithmetic.total(high.lower, cross.upper, other.upper, second.upper)
    return _Word(high.upper + third.upper, third.lower), _Word(second.lower, low.lower)


class _InLongIntegers:
    """Each number lies in a signed integer of 64 bits: a product wraps around, and its bits are right."""

    def __init__(self, xp: Any) -> None:
        self.dtype = xp.int64

    def product(self, a: Array, b: int) -> _Word:
        return self._cut(a * b)

    def total(self, *terms: Array) -> _Word:
        return self._cut(reduce(add, terms))

    def _cut(self, number: Array) -> _Word:
        return _Word(number >> 32 & _WORD, number & _WORD)


class _InHalves:
    """Each number lies in an unsigned integer of 32 bits, and is multiplied and added by halves of 16."""

    def __init__(self, xp: Any) -> None:
        self.dtype = xp.uint32

    def product(self, a: Array, b: int) -> _Word:
        (a1, a0), (b1, b0) = (a >> 16, a & _HALF), (b >> 16, b & _HALF)
        low, cross, other, high = a0 * b0, a0 * b1, a1 * b0, a1 * b1
        middle = (low >> 16) + (cross & _HALF) + (other & _HALF)
        return _Word(high + (cross >> 16) + (other >> 16) + (middle >> 16), (low & _HALF) | (middle << 16))

    def total(self, *terms: Array) -> _Word:
        lower = reduce(add, [term & _HALF for term in terms])
        upper = reduce(add, [term >> 16 for term in terms]) + (lower >> 16)
        return _Word(upper >> 16, (lower & _HALF) | (upper << 16))


def _arithmetic(xp: Any) -> _Arithmetic:
    has_long = "int64" in xp.__array_namespace_info__().dtypes(kind="signed integer")
    return _InLongIntegers(xp) if has_long else _InHalves(xp)


def _octets(xp: Any, words: Sequence[_Word]) -> Array:
    """Return the bytes of every block, the lowest of each word first: shape (blocks, 32)."""
    pieces = xp.stack([piece for word in words for piece in (word.lower, word.upper)], axis=1)
    shifts = xp.asarray([0, 8, 16, 24], dtype=pieces.dtype, device=device_of(pieces))
    octets = pieces[:, :, None] >> shifts & 255
    return xp.reshape(xp.astype(octets, xp.uint8), (pieces.shape[0], -1))


def _unpacked(xp: Any, octets: Array, size: int) -> Array:
    """Turn the first bits into signs."""
    needed = xp.reshape(octets, (-1,))[: -(-size // 8)]
    shifts = xp.arange(8, dtype=xp.uint8, device=device_of(octets))
    bits = needed[:, None] >> shifts & 1
    return 2 * xp.astype(xp.reshape(bits, (-1,))[:size], xp.int8) - 1
