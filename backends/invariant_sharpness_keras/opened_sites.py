"""The sites of a forward pass, and the sums of squares, or of products, of their variables' gradients."""

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
        self.sites: dict[int, Site] = {}
        """Those that every example passes once and that have a rule, by their positions among the given ones."""
        self.affine: list[Tensor] = []
        """The outputs of their affine parts, whose cotangents are wanted."""
        self._squares: list[dict[int, Squares]] = []
        self._totals: dict[int, Tensor] = {}
        for number, (site, record) in enumerate(zip(sites, records, strict=True)):
            own = _squares(site, record) if record.is_plain(outputs) else {}
            if own:
                self.sites[number] = site
                self.affine.append(record.outputs[0])
                self._squares.append(own)

    @property
    def entries(self) -> int:
        """How many numbers are held for each example, beside those of the model."""
        every = [squares for own in self._squares for squares in own.values()]
        return sum(squares.held for squares in every) + max((squares.made for squares in every), default=0)

    @property
    def totals(self) -> list[Tensor]:
        """What was added up so far."""
        return list(self._totals.values())

    def add(self, signs: Tensor, deltas: Sequence[Tensor]) -> None:
        """Add squares: of signed weights ``(n,)``, and the cotangents of the affine parts."""
        for own, delta in zip(self._squares, deltas, strict=True):
            for index, squares in own.items():
                term = squares.term(ops.cast(signs, delta.dtype), delta, delta)
                self._totals[index] = self._totals[index] + term if index in self._totals else term

    def finished(self) -> dict[int, Tensor]:
        """The sums, by the positions of the variables among the values."""
        every = {index: squares for own in self._squares for index, squares in own.items()}
        return {index: every[index].finished(total) for index, total in self._totals.items()}

    def variables(self, number: int) -> list[int]:
        """The positions of the variables of one of the sites that have a rule."""
        return list(self._squares[number])

    def products(self, number: int, left: Tensor, right: Tensor) -> dict[int, Tensor]:
        """Sum the products of the gradients that two cotangents of one of the affine parts make, by the positions of variables."""
        ones = ops.ones((ops.shape(left)[0],), left.dtype)
        own = self._squares[number]
        return {index: squares.finished(squares.term(ones, left, right)) for index, squares in own.items()}


def _squares(site: Site, record: Record) -> dict[int, Squares]:
    """The squares of a site's variables, by their positions among the values; without those that have no rule."""
    record.inputs = [ops.stop_gradient(tensor) for tensor in record.inputs]
    by_name = RULES[type(site.layer)](site.layer, record)
    return {site.variables[name]: squares for name, squares in by_name.items() if name in site.variables}


def agree(found: Array, expected: Array, largest: float) -> bool:
    """Whether squares are equal to rounding. Beside the largest of all parameters, those of a zero derivative are rounding alone."""
    eps = float(np.finfo(expected.dtype).eps)
    tolerance = eps**0.5
    absolute = tolerance * float(np.abs(expected).max()) + eps * largest
    return bool(np.allclose(found, expected, rtol=tolerance, atol=absolute))
