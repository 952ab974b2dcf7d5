"""The sites of a forward pass, and the sums of squares of their variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from invariant_sharpness_keras.layer_sites import Record, Site
from invariant_sharpness_keras.layer_squares import RULES, Squares

Tensor = Any
Array = npt.NDArray[Any]


class OpenedSites:
    """The sites that a forward pass went through as their rules need it, ready to add up squares.

    Parameters
    ----------
    sites, records
        The layers, and what was recorded of them.
    outputs
        Of the model.
    """

    def __init__(self, sites: Sequence[Site], records: Sequence[Record], outputs: Tensor) -> None:
        pairs = [pair for pair in zip(sites, records, strict=True) if pair[1].is_plain(outputs)]
        self.sites = [site for site, _ in pairs]
        self.affine = [record.outputs[0] for _, record in pairs]
        """The outputs of their affine parts, whose cotangents are wanted."""
        self._squares: list[dict[int, Squares]] = []
        for site, record in pairs:
            record.inputs = [ops.stop_gradient(tensor) for tensor in record.inputs]
            by_name = RULES[type(site.layer)](site.layer, record)
            self._squares.append({site.variables[name]: by_name[name] for name in by_name if name in site.variables})

    @property
    def entries(self) -> int:
        """How many numbers are held for each example, beside those of the model."""
        every = [squares for own in self._squares for squares in own.values()]
        return sum(squares.held for squares in every) + max((squares.made for squares in every), default=0)

    @property
    def totals(self) -> list[Tensor]:
        """What was added up so far."""
        totals = [squares.total for own in self._squares for squares in own.values()]
        return [total for total in totals if total is not None]

    def add(self, signs: Tensor, deltas: Sequence[Tensor]) -> None:
        """Add a term: signed weights ``(n,)`` and the cotangents of the affine parts."""
        for own, delta in zip(self._squares, deltas, strict=True):
            for squares in own.values():
                squares.add(ops.cast(signs, delta.dtype), delta)

    def finished(self) -> dict[int, Tensor]:
        """The sums, by the positions of the variables among the values."""
        return {index: squares.finished() for own in self._squares for index, squares in own.items()}


def agree(found: Array, expected: Array, largest: float) -> bool:
    """Whether squares are equal to rounding. Beside the largest of all parameters, those of a zero derivative are rounding alone."""
    eps = float(np.finfo(expected.dtype).eps)
    tolerance = eps**0.5
    absolute = tolerance * float(np.abs(expected).max()) + eps * largest
    return bool(np.allclose(found, expected, rtol=tolerance, atol=absolute))
