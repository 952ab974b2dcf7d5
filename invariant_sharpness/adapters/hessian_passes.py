"""Products with the Hessian of a data set: one pass for many vectors, or one linearization that is held for vectors to come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

from invariant_sharpness.adapters.data import batch_size
from invariant_sharpness.adapters.engine import Arrays, Sums
from invariant_sharpness.adapters.layer_passes import LayerPasses
from invariant_sharpness.adapters.passes import Partial, Piece, Total, in_total
from invariant_sharpness.errors import ModelError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import HessianOperator, HessianOperatorOracle

SumsOfProducts = Callable[[Sequence[Arrays]], Sums]
"""From vectors to the sums of their products over a batch."""


class OperatorPoint(Protocol):
    """What a point of an engine has beyond, if the engine offers :class:`invariant_sharpness.protocol.HessianOperatorOracle`."""

    def hessian_operator(self, batch: Any, /) -> SumsOfProducts:
        """Linearize the gradient of a batch; the products are taken while the engine is at the same parameters."""
        ...


class OperatorEngine(Protocol):
    """What such an engine has beyond."""

    def linearizations_within_limit(self) -> int:
        """Return of how many examples the memory limit holds the linearized gradients."""
        ...


class HessianPasses(LayerPasses):
    """The methods of :class:`invariant_sharpness.protocol.BlockProductOracle` and `HessianOperatorOracle`."""

    _total: Callable[[Callable[[], Partial], ParameterVector], Total]
    _mean_vectors: Callable[[ParameterVector, Total], list[ParameterVector]]

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        return self.hessian_vector_products(parameters, [vector])[0]

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        along = [self._native(vector) for vector in vectors]
        return self._means(parameters, lambda point, piece: point.hessian_products(along, piece.batch))

    def hessian_operator(self, parameters: ParameterVector, /) -> HessianOperator:
        """Hold the linearizations of all pieces if they fit into the memory limit; else every call is a pass over the data.

        So it is, too, once a model has written to what a linearization holds, as some do to their buffers in every forward pass.
        """
        held = self._linearized(parameters) if HessianOperatorOracle in self.engine.offers else []

        def products(vectors: Sequence[ParameterVector]) -> list[ParameterVector]:
            if held:
                try:
                    return self._held_products(held, parameters, vectors)
                except ModelError:
                    held.clear()
            return self.hessian_vector_products(parameters, vectors)

        return products

    def _held_products(
        self, held: Sequence[SumsOfProducts], parameters: ParameterVector, vectors: Sequence[ParameterVector]
    ) -> list[ParameterVector]:
        along = [self._native(vector) for vector in vectors]

        def sums() -> Partial:
            with self._measuring(parameters):
                return self._together(multiply(along) for multiply in held)

        return self._mean_vectors(parameters, self._total(sums, parameters))

    def _linearized(self, parameters: ParameterVector) -> list[SumsOfProducts]:
        """The products of each piece of the data; none if these are too many to hold, or on several processes."""
        if self.processes.size > 1:
            return []
        room = cast(OperatorEngine, self.engine).linearizations_within_limit()
        with self._measuring(parameters) as point:
            pieces: list[Piece] = []
            for piece in self._pieces():
                pieces.append(piece)
                room -= batch_size(piece.batch)
                if room < 0:
                    return []
            return [cast(OperatorPoint, point).hessian_operator(piece.batch) for piece in pieces]

    def _together(self, found: Iterable[Sums]) -> Partial:
        """Add the arrays of pieces, and keep their other sums."""
        arrays: tuple[Arrays, ...] | None = None
        parts: list[Sums] = []
        for part in found:
            arrays = in_total(self.engine, arrays, part.arrays)
            parts.append(part._replace(arrays=()))
        return Partial(arrays, parts)
