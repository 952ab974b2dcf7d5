"""How much memory a measurement may take beside the model and one batch.

A long computation cuts itself into blocks that stay within the bound. No value depends on it beyond its own error. The default is a share of what the
machine has, and not of what is free at the moment, so that a run can be repeated bit by bit.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from numbers import Real
from pathlib import Path

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.protocol import CurvatureOracle

_LEAST, _SHARE = 2**30, 8
"""By default an eighth of the machine's memory, and at least 1 GiB."""

_CONTAINER = Path("/sys/fs/cgroup/memory.max")
"""What a container may take on Linux, or ``max``."""

_LARGEST_IN_HEAP = 2**25
"""Bytes of the largest array that the C library of Linux may put into its heap."""

_bound: ContextVar[int | None] = ContextVar("memory", default=None)


@contextmanager
def memory_limit(size: int) -> Generator[None]:
    """Keep to ``size`` bytes inside the ``with`` block; elsewhere to an eighth of the memory of the machine or container, and at least 1 GiB.

    The bound holds for the vectors of a block, for gradients of single examples, and for linearizations that are held, which can be made
    smaller or done without. What cannot be is added: the model, the activations of a batch, and two vectors.

    Parameters
    ----------
    size
        The bound in bytes.

    Raises
    ------
    ArgumentError
        If ``size`` is less than one.

    Examples
    --------
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> with ish.memory_limit(2**20):
    ...     trace = ish.hutchinson_trace(quadratic([[2.0, 0.0], [0.0, 3.0]], [[1.0, 1.0]]))
    >>> trace.value
    5.0
    """
    if not (isinstance(size, Real) and size >= 1):
        msg = f"memory_limit({size!r}), but it is a number of bytes, such as 2**30"
        raise ArgumentError(msg)
    token = _bound.set(int(size))
    try:
        yield
    finally:
        _bound.reset(token)


def chunks_within_limit(size: int) -> int:
    """Return how many chunks of ``size`` bytes each fit into the memory limit; at least one."""
    return max(1, _limit() // max(1, size))


def _limit() -> int:
    bound = _bound.get()
    return _default() if bound is None else bound


@cache
def _default() -> int:
    return max(_LEAST, _of_machine() // _SHARE)


def _of_machine() -> int:
    """Return the bytes of memory that this machine has, or that its container may take; zero where neither is told."""
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return 0
    try:
        granted = _CONTAINER.read_text().strip()
    except OSError:
        granted = "max"
    return min(pages * size, int(granted)) if granted.isdigit() else pages * size


def vector_size(oracle: CurvatureOracle) -> int:
    """Return the bytes of a vector of parameters."""
    parameters = oracle.parameters
    bits = (group.size * int(oracle.xp.finfo(parameters[group.name].dtype).bits) for group in oracle.groups)
    return sum(bits) // 8


def vectors_within_limit(oracle: CurvatureOracle) -> int:
    """Return how many vectors fit into the memory limit; at least one."""
    return chunks_within_limit(vector_size(oracle))


def give_back_freed(oracle: CurvatureOracle) -> None:
    """Give back to the system what the activations of a large network have left behind, before the host makes arrays of its size.

    The C library of Linux keeps what is freed in its heap, gigabytes between pieces that are in use, and never puts arrays there that are larger than 32 MB.
    Nothing happens for small networks, and on other systems. Cost: what takes the heap again, some tenths of a second.
    """
    trim = _trim_of_the_c_library()
    if trim is not None and vector_size(oracle) > _LARGEST_IN_HEAP:
        trim(0)


@cache
def _trim_of_the_c_library() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, and Windows
        return None


@contextmanager
def reserve(oracle: CurvatureOracle, count: int, purpose: str) -> Generator[None]:
    """Reserve the memory of ``count`` vectors inside the ``with`` block: blocks of products get the rest of the limit.

    Parameters
    ----------
    oracle
        The oracle whose vectors they are.
    count
        Number of vectors.
    purpose
        What holds them, for the message.

    Raises
    ------
    ArgumentError
        If they do not fit into the memory limit; says how many would.
    """
    size, bound = vector_size(oracle), _limit()
    if count * size >= bound:
        msg = (
            f"{purpose} holds {count} vectors of {size} bytes, and the memory limit of {bound} bytes leaves room for "
            f"{(bound - 1) // size}: ask for fewer, or measure within memory_limit({2 * count * size})"
        )
        raise ArgumentError(msg)
    with memory_limit(bound - count * size):
        yield
