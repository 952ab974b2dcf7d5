"""The passes over the data in which layers are told apart: their output units, and the diagonal of the residual part of the Hessian."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from invariant_sharpness.adapters.data import batch_size, one_of_each_form
from invariant_sharpness.adapters.engine import Arrays, Point, Sums
from invariant_sharpness.adapters.example_passes import ExamplePasses
from invariant_sharpness.adapters.layers import (
    FormPoint,
    HostMoments,
    LayerPoint,
    NodePoint,
    OneByOnePoint,
    Perturbations,
    ResidualPoint,
    merged,
    units_of,
)
from invariant_sharpness.adapters.passes import Piece
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import Draws
from invariant_sharpness.protocol import LayerUnits, OutputForm
from invariant_sharpness.runtime.processes import everywhere


class LayerPasses(ExamplePasses):
    """The methods of :class:`invariant_sharpness.protocol.ResidualDiagonalOracle`, `ResidualProductOracle`, `OutputFormOracle`, `OneByOneOracle` and `NodeCurvatureOracle`, for engines that offer these."""

    _pieces: Callable[[], Iterator[Piece]]
    _ask: Callable[[str], None]
    _native: Callable[[ParameterVector], Arrays]
    _means: Callable[[ParameterVector, Callable[[Point[Any], Piece], Sums]], list[ParameterVector]]

    def layer_units(self, parameters: ParameterVector, /) -> Mapping[str, LayerUnits]:
        found = everywhere(self.processes, lambda: self._layer_moments(parameters))
        return units_of([moments for of_process in found for moments in of_process])

    def _layer_moments(self, parameters: ParameterVector) -> list[HostMoments]:
        """Those of this process, together; none where it has no example."""
        with self._measuring(parameters) as point:
            moments = [cast(LayerPoint, point).layer_moments(piece.batch) for piece in self._pieces()]
            read = self.engine.read([list(batch.squares.values()) for batch in moments])
        batches = [
            HostMoments(dict(zip(batch.squares, arrays, strict=True)), batch.outputs)
            for batch, arrays in zip(moments, read, strict=True)
        ]
        return [merged(batches)] if batches else []

    def residual_diagonal(self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits]) -> ParameterVector:
        return self._residual(parameters, lambda _: Perturbations(units, None))

    def sampled_residual_diagonal(
        self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits], draws: range, seed: int
    ) -> ParameterVector:
        first = self._share.start
        self._ask(f"{sorted(units)} {draws} {seed}")
        drawn = self._residual(
            parameters, lambda piece: Perturbations(units, Draws(draws, seed, first + piece.example))
        )
        return drawn / float(len(draws))

    def residual_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /, names: frozenset[str]
    ) -> list[ParameterVector]:
        along = [self._native(vector) for vector in vectors]

        def products(point: Point[Any], piece: Piece) -> Sums:
            return cast(ResidualPoint, point).residual_products(along, names, piece.batch)

        return self._means(parameters, products)

    def output_form(self, parameters: ParameterVector, /) -> OutputForm:
        """Read off the program for one example in the middle of the data; for all shapes of an example, where the program depends on nothing else."""
        forms = [
            form for of_process in everywhere(self.processes, lambda: self._forms(parameters)) for form in of_process
        ]
        curved, unknown = (frozenset().union(*groups) for groups in zip(*(form[:2] for form in forms), strict=True))
        return OutputForm(curved, unknown - curved, of_every_example=self.engine.traced)

    def _forms(self, parameters: ParameterVector) -> list[OutputForm]:
        """Those of this process's examples."""
        with self._measuring(parameters) as point:
            return [cast(FormPoint, point).output_form(part) for part in self._with_programs()]

    def _with_programs(self) -> Iterator[Any]:
        """Some examples of this process, whose programs stand for those of all."""
        if self.engine.traced:
            return one_of_each_form(piece.batch for piece in self._pieces())
        some, _ = self._spread.examples(self._differentiated(1), self._share)
        return (part for whole in some for _, part in self._cut(whole))

    def squared_one_by_one(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        """Told from the first batch. Cost: a forward pass with it."""
        found: dict[str, int] = {}
        for of_process in everywhere(self.processes, lambda: self._squared_one_by_one(parameters)):
            found |= {name: max(size, found.get(name, 0)) for name, size in of_process.items()}
        return found

    def _squared_one_by_one(self, parameters: ParameterVector) -> Mapping[str, int]:
        """In the first batch of this process, which others are as large as; nothing where it has no example."""
        with self._measuring(parameters) as point:
            for piece in self._pieces():
                names = cast(OneByOnePoint, point).squared_one_by_one(piece.batch)
                return dict.fromkeys(names, batch_size(piece.batch))
        return {}

    def node_counts(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        found = everywhere(self.processes, lambda: self._node_counts(parameters))
        first, *others = (counts for of_process in found for counts in of_process)
        return {name: count for name, count in first.items() if all(name in counts for counts in others)}

    def _node_counts(self, parameters: ParameterVector) -> list[Mapping[str, int]]:
        """Those of every batch of this process."""
        with self._measuring(parameters) as point:
            return [cast(NodePoint, point).node_counts(piece.batch) for piece in self._pieces()]

    def propagated_residual_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        self._ask(f"{sorted(names)} {draws} {seed}")

        def squares(point: Point[Any], piece: Piece) -> Sums:
            signs = Draws(draws, seed, self._share.start + piece.example)
            return cast(NodePoint, point).node_squares(names, signs, piece.batch)

        return self._means(parameters, squares)[0] / float(len(draws))

    def _residual(
        self, parameters: ParameterVector, perturbations: Callable[[Piece], Perturbations]
    ) -> ParameterVector:
        def squares(point: Point[Any], piece: Piece) -> Sums:
            return cast(LayerPoint, point).residual_squares(perturbations(piece), piece.batch)

        return self._means(parameters, squares)[0]
