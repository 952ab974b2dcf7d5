"""How much memory a measurement may take beside the model and one batch.

A long computation cuts itself into blocks that stay within the bound. No value depends on it beyond its own error.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.protocol import CurvatureOracle

_DEFAULT = 2**30

_bound: ContextVar[int] = ContextVar("memory", default=_DEFAULT)


@contextmanager
def memory_limit(size: int) -> Generator[None]:
    """Keep to ``size`` bytes inside the ``with`` block; 1 GiB elsewhere.

    The bound holds for the vectors of a block and for gradients of single examples, which can be made smaller. What
    cannot be is added: the model, the activations of a batch, and two vectors.

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
    return max(1, _bound.get() // max(1, size))


def vector_size(oracle: CurvatureOracle) -> int:
    """Return the bytes of a vector of parameters."""
    parameters = oracle.parameters
    bits = (group.size * int(oracle.xp.finfo(parameters[group.name].dtype).bits) for group in oracle.groups)
    return sum(bits) // 8


def vectors_within_limit(oracle: CurvatureOracle) -> int:
    """Return how many vectors fit into the memory limit; at least one."""
    return chunks_within_limit(vector_size(oracle))


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
    size, bound = vector_size(oracle), _bound.get()
    if count * size >= bound:
        msg = (
            f"{purpose} holds {count} vectors of {size} bytes, and the memory limit of {bound} bytes leaves room for "
            f"{(bound - 1) // size}: ask for fewer, or measure within memory_limit({2 * count * size})"
        )
        raise ArgumentError(msg)
    with memory_limit(bound - count * size):
        yield
