"""One row of outputs per example, on the host: how adapters put them together, and take them apart."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np

from invariant_sharpness.errors import ArgumentError, DataError
from invariant_sharpness.protocol import Rows


def stacked(parts: Iterable[Any]) -> Rows:
    """Rows ``(n, M)`` out of the outputs of batches, arrays on the host whose first axis counts examples.

    Raises
    ------
    DataError
        If there is no batch, or examples differ in their number of outputs.
    """
    rows = [np.asarray(part, dtype=np.float64).reshape(len(part), -1) for part in parts]
    if not rows:
        msg = "no examples were asked for, or the data yielded no batch on this pass: ask for at least one example"
        raise DataError(msg)
    widths = sorted({row.shape[1] for row in rows})
    if len(widths) > 1:
        msg = f"examples have {' and '.join(map(str, widths))} outputs: make batches of one shape, or ask for fewer examples"
        raise DataError(msg)
    return np.concatenate(rows)


class CotangentRows:
    """Cotangents of outputs, handed out batch by batch.

    Parameters
    ----------
    rows
        One row per example, of shape ``(n, M)``.

    Raises
    ------
    ArgumentError
        If they are not rows, do not fit the outputs, or are more than there are examples.
    """

    def __init__(self, rows: Any) -> None:
        self._rows: Rows = np.asarray(rows, dtype=np.float64)
        if self._rows.ndim != 2:
            msg = f"cotangents have shape {self._rows.shape}, but they are one row of numbers per example, (n, M)"
            raise ArgumentError(msg)
        self._shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def part(self, start: int, stop: int | None = None) -> CotangentRows:
        """Those of some examples alone."""
        return CotangentRows(self._rows[start:stop])

    def next_like(self, shape: tuple[int, ...]) -> Rows:
        """The next rows, in the shape of a batch of outputs.

        Raises
        ------
        ArgumentError
            If they do not fit the outputs.
        DataError
            If they fitted those of the batches before.
        """
        examples, outputs = shape[0], prod(shape[1:])
        if self._rows.shape[1] != outputs:
            if self._shape is not None:
                msg = (
                    f"examples have outputs of shape {self._shape} and {shape[1:]}: make batches of one shape, or ask for "
                    f"fewer examples"
                )
                raise DataError(msg)
            msg = f"cotangents have {self._rows.shape[1]} numbers per row, but an example has {outputs} outputs"
            raise ArgumentError(msg)
        self._shape = shape[1:]
        part, self._rows = self._rows[:examples], self._rows[examples:]
        return part.reshape(shape)

    def check_used(self) -> None:
        """Raise if there are rows left."""
        if len(self._rows):
            msg = f"there are {len(self._rows)} more rows of cotangents than examples in the data"
            raise ArgumentError(msg)
