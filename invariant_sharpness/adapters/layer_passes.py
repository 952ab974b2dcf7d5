"""The passes over the data in which layers are told apart: their output units, and the diagonal of the residual part of the Hessian."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, cast

from invariant_sharpness.adapters.engine import Engine, Point, Sums
from invariant_sharpness.adapters.layers import LayerPoint, NodePoint, Perturbations, units_of
from invariant_sharpness.adapters.passes import Piece
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import Draws
from invariant_sharpness.protocol import LayerUnits


class LayerPasses:
    """The methods of :class:`invariant_sharpness.protocol.ResidualDiagonalOracle` and `NodeCurvatureOracle`, for engines that offer these."""

    engine: Engine[Any]
    _pieces: Callable[[], Iterator[Piece]]
    _measuring: Callable[[ParameterVector], AbstractContextManager[Point[Any]]]
    _means: Callable[[ParameterVector, Callable[[Point[Any], Piece], Sums]], list[ParameterVector]]

    def layer_units(self, parameters: ParameterVector, /) -> Mapping[str, LayerUnits]:
        with self._measuring(parameters) as point:
            moments = [cast(LayerPoint, point).layer_moments(piece.batch) for piece in self._pieces()]
            read = self.engine.read([list(batch.squares.values()) for batch in moments])
        squares = [dict(zip(batch.squares, arrays, strict=True)) for batch, arrays in zip(moments, read, strict=True)]
        return units_of(squares, [batch.outputs for batch in moments])

    def residual_diagonal(self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits]) -> ParameterVector:
        return self._residual(parameters, lambda _: Perturbations(units, None))

    def sampled_residual_diagonal(
        self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits], draws: range, seed: int
    ) -> ParameterVector:
        drawn = self._residual(parameters, lambda piece: Perturbations(units, Draws(draws, seed, piece.example)))
        return drawn / float(len(draws))

    def node_counts(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        with self._measuring(parameters) as point:
            counts = [cast(NodePoint, point).node_counts(piece.batch) for piece in self._pieces()]
        first, *others = counts
        return {name: count for name, count in first.items() if all(name in batch for batch in others)}

    def propagated_residual_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        def squares(point: Point[Any], piece: Piece) -> Sums:
            return cast(NodePoint, point).node_squares(names, Draws(draws, seed, piece.example), piece.batch)

        return self._means(parameters, squares)[0] / float(len(draws))

    def _residual(
        self, parameters: ParameterVector, perturbations: Callable[[Piece], Perturbations]
    ) -> ParameterVector:
        def squares(point: Point[Any], piece: Piece) -> Sums:
            return cast(LayerPoint, point).residual_squares(perturbations(piece), piece.batch)

        return self._means(parameters, squares)[0]
