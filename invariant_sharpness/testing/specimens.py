"""Networks to test metrics on, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from invariant_sharpness.protocol import CurvatureOracle, JacobianOracle, supports
from invariant_sharpness.symmetries import Symmetries, Symmetry, UnitPermutation, chain_permutations, find_symmetries

RESCALINGS = ("layer", "row_column")
"""The kinds of symmetries that are found in every network that has them."""


class Specimen:
    """A network to test metrics on.

    Its rescaling symmetries are found; permutations are tried, and taken if they leave the loss alone.

    Parameters
    ----------
    oracle
        Of the network.
    name
        What it is, for messages.
    symmetries
        Others that it has, such as :class:`invariant_sharpness.HeadMixing`: metrics that claim to survive their kind must, and others must not.
    rebuild
        ``(order, batch_size) -> oracle`` of the same network, with the examples in this order and in batches of this size.
    snapshot
        Returns copies of all that can be seen of the model, as something that ``==`` compares: bytes, or a dictionary of bytes and numbers.
    """

    def __init__(
        self,
        oracle: CurvatureOracle,
        name: str = "",
        symmetries: Sequence[Symmetry] = (),
        rebuild: Callable[[Sequence[int], int], CurvatureOracle] | None = None,
        snapshot: Callable[[], Any] | None = None,
    ) -> None:
        self.oracle, self.name, self.symmetries = oracle, name, symmetries
        self.rebuild, self.snapshot = rebuild, snapshot

    def __repr__(self) -> str:
        return self.name or f"the {type(self.oracle).__name__}"

    def families(self, kind: str) -> list[Symmetry]:
        """Its symmetries of this kind."""
        rescalings = [self.rescalings(kind)] if kind in RESCALINGS else []
        return [*(r for r in rescalings if r), *(s for s in self.symmetries if s.kind == kind)]

    def rescalings(self, kind: str) -> Symmetries | None:
        """Of single units (``"row_column"``) or whole layers (``"layer"``); none if the oracle does not show its outputs."""
        return self._rescalings if kind == "row_column" or self._rescalings is None else self._rescalings.by_layer()

    @cached_property
    def _rescalings(self) -> Symmetries | None:
        return find_symmetries(self.oracle) if supports(self.oracle, JacobianOracle) else None

    @cached_property
    def permutations(self) -> list[UnitPermutation]:
        """The permutations of a plain chain of layers, if this network is one: then they leave the loss alone."""
        return [permutation for permutation in chain_permutations(self.oracle) if self._holds(permutation)]

    def _holds(self, permutation: UnitPermutation) -> bool:
        oracle = self.oracle
        before = oracle.loss(oracle.parameters)
        try:
            places = [move.apply(oracle.parameters) for move in permutation.transformations(0).values()]
        except ValueError:  # the layers do not fit to each other
            return False
        return all(abs(oracle.loss(place) - before) <= 1e-3 * abs(before) for place in places)
