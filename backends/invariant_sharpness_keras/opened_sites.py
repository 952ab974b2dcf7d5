"""The sites of a forward pass, and the sums of squares, or of products, of their variables' gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from invariant_sharpness_keras.layer_sites import Record, Site
from invariant_sharpness_keras.layer_squares import RULES, Squares

Tensor = Any
Owned = dict[tuple[int, ...], Squares]
"""Squares, by the positions among the values of the variables that they are of."""


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
        self._squares: list[Owned] = []
        self._totals: dict[tuple[int, ...], Tensor] = {}
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
            for owners, squares in own.items():
                term = squares.term(ops.cast(signs, delta.dtype), delta, delta)
                self._totals[owners] = self._totals[owners] + term if owners in self._totals else term

    def finished(self) -> dict[int, Tensor]:
        """The sums, by the positions of the variables among the values."""
        every = {owners: squares for own in self._squares for owners, squares in own.items()}
        return _by_variable({owners: every[owners].finished(total) for owners, total in self._totals.items()})

    def variables(self, number: int) -> list[int]:
        """The positions of the variables of one of the sites that have a rule."""
        return [index for owners in self._squares[number] for index in owners]

    def products(self, number: int, left: Tensor, right: Tensor) -> dict[int, Tensor]:
        """Sum the products of the gradients that two cotangents of one of the affine parts make, by the positions of variables."""
        ones = ops.ones((ops.shape(left)[0],), left.dtype)
        own = self._squares[number]
        return _by_variable({o: squares.finished(squares.term(ones, left, right)) for o, squares in own.items()})


def _squares(site: Site, record: Record) -> Owned:
    """The squares of a site's variables; without those that have no rule."""
    record.inputs = [ops.stop_gradient(tensor) for tensor in record.inputs]
    by_names = RULES[type(site.layer)](site, record)
    measured = {names: squares for names, squares in by_names.items() if site.variables.keys() >= set(names)}
    return {tuple(site.variables[name] for name in names): squares for names, squares in measured.items()}


def _by_variable(found: dict[tuple[int, ...], tuple[Tensor, ...]]) -> dict[int, Tensor]:
    """One sum for each variable, from the sums of those that are made together."""
    return {index: array for owners, arrays in found.items() for index, array in zip(owners, arrays, strict=True)}
