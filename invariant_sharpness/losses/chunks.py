"""Functions of rows of outputs, computed some rows at a time: over a large vocabulary each step of a formula is as large as the outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Array = Any

LARGEST = 2**20
"""Numbers of outputs in a chunk: 4 MiB in single precision, which stay in the cache of a processor."""

_MOST = 64
"""No more chunks than this: a compiler unrolls them."""


def by_rows(xp: Any, function: Callable[..., Array], outputs: Array, /, *others: Array) -> Array:
    """Apply a function of outputs ``(n, K)``, and of other arrays with n rows, chunk by chunk; what it returns has n rows, too.

    Memory: that of what is returned, twice, and of one chunk for everything between.

    Examples
    --------
    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> by_rows(xp, lambda z, t: z.sum(axis=1) * t, np.ones((3, 2)), np.arange(3.0)).tolist()
    [0.0, 2.0, 4.0]
    """
    rows, width = outputs.shape
    if rows is None:  # a graph of TensorFlow for any number of rows
        return function(outputs, *others)
    size = max(1, LARGEST // max(width, 1), -(-rows // _MOST))
    if rows <= size:
        return function(outputs, *others)
    cut = zip(*(_chunks(xp, array, size) for array in (outputs, *others)), strict=True)
    return xp.concat([function(*arrays) for arrays in cut], axis=0)


def _chunks(xp: Any, array: Array, size: int) -> list[Array]:
    """So many rows each, and what is left: unstacked, since each slice would add an array as large as the whole to a derivative."""
    rows = array.shape[0]
    whole = rows - rows % size
    equal, rest = (array, []) if whole == rows else (array[:whole], [array[whole:]])
    return [*xp.unstack(xp.reshape(equal, (-1, size, *array.shape[1:]))), *rest]
