"""The methods of an engine's point that return sums, on one batch, at two parameter points."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, cast

from invariant_sharpness.adapters.data import PASS_SEED, Batches, Dataset, batch_size, take
from invariant_sharpness.adapters.dataset_oracle import DatasetOracle
from invariant_sharpness.adapters.engine import Arrays, Cotangents, Engine, Point, Sums
from invariant_sharpness.adapters.hessian_passes import OperatorPoint
from invariant_sharpness.adapters.layers import (
    HostMoments,
    LayerPoint,
    NodePoint,
    Perturbations,
    ResidualPoint,
    units_of,
)
from invariant_sharpness.parameters.groups import HostArrays
from invariant_sharpness.prng import Draws
from invariant_sharpness.protocol import (
    ExampleGradientOracle,
    GaussNewtonDiagonalOracle,
    GaussNewtonOracle,
    HessianOperatorOracle,
    LayerUnits,
    NodeCurvatureOracle,
    ResidualDiagonalOracle,
    ResidualProductOracle,
    SampledGaussNewtonOracle,
)
from invariant_sharpness.testing.points import nearby_point, scaled_signs


class Start(NamedTuple):
    """The numbers that the first example of a batch, and its first row, have in the data."""

    example: int
    row: int


Method = Callable[[Point[Any], Any, Start], Sums]
"""A method of a point, on a batch that starts there."""

START = Start(0, 0)


@dataclass(frozen=True, slots=True)
class Case:
    """What the checks are made with.

    Parameters
    ----------
    engine
        The engine.
    given, parts
        A batch of the user's, and its parts.
    before
        Where the model is, on the host.
    point, other, directions
        Two parameter points, and two directions, as the engine's tensors.
    units
        The output units of layers, at the point.
    propagated
        Groups to which curvature can be propagated from something above them.
    """

    engine: Engine[Any]
    given: Any
    parts: list[Any]
    before: HostArrays
    point: Arrays
    other: Arrays
    directions: tuple[Arrays, Arrays]
    units: Mapping[str, LayerUnits]
    propagated: frozenset[str]

    @property
    def all_names(self) -> frozenset[str]:
        return frozenset(group.name for group in self.engine.groups)

    @property
    def some_names(self) -> frozenset[str]:
        """Every second group, so that others are left out."""
        return frozenset(group.name for group in self.engine.groups[::2])

    @contextmanager
    def at(self, parameters: Arrays) -> Generator[Point[Any]]:
        with self.engine.random_state(PASS_SEED, ()), self.engine.at(parameters) as point:
            yield point

    def methods(self) -> dict[str, tuple[frozenset[str], Method]]:
        """The methods that return sums, each with the names of the groups in its arrays."""
        (u, v), offers, squares = self.directions, self.engine.offers, self._squares
        found: dict[str, tuple[frozenset[str], Method]] = {
            "losses": (frozenset(), lambda point, batch, _: point.losses(batch)),
            "gradient": (self.all_names, lambda point, batch, _: point.gradient(batch)),
            "hessian_products": (self.all_names, lambda point, batch, _: point.hessian_products([u, v], batch)),
        }
        if GaussNewtonOracle in offers:
            found["gauss_newton_product"] = self.all_names, lambda point, batch, _: point.gauss_newton_product(u, batch)
        if HessianOperatorOracle in offers:
            found["hessian_operator"] = self.all_names, self._operator
        if ResidualProductOracle in offers:
            found["residual_products"] = self.some_names, self._residual_products
        if GaussNewtonDiagonalOracle in offers:
            found['squares of "curvature"'] = self.some_names, squares(lambda _: Cotangents("curvature"))
        if ExampleGradientOracle in offers:
            found['squares of "gradient"'] = self.some_names, squares(lambda _: Cotangents("gradient"))
            found["slopes"] = frozenset(), lambda point, batch, _: point.slopes(u, batch)
        if SampledGaussNewtonOracle in offers and self.engine.samples_outputs:
            drawn = squares(lambda row: Cotangents("sampled", Draws(range(2), 0, row)))
            found['squares of "sampled"'] = self.some_names, drawn
        if self.units:
            found["residual_squares"] = frozenset(self.units), self._residual_squares
        if self.propagated:
            found["node_squares"] = self.propagated, self._node_squares
        return found

    def _squares(self, cotangents: Callable[[int], Cotangents]) -> Method:
        return lambda point, batch, start: point.squares(self.some_names, cotangents(start.row), batch)

    def _operator(self, point: Point[Any], batch: Any, _: Start) -> Sums:
        return cast(OperatorPoint, point).hessian_operator(batch)(self.directions)

    def _residual_products(self, point: Point[Any], batch: Any, _: Start) -> Sums:
        return cast(ResidualPoint, point).residual_products(self.directions, self.some_names, batch)

    def _residual_squares(self, point: Point[Any], batch: Any, start: Start) -> Sums:
        perturbations = Perturbations(self.units, Draws(range(2), 0, start.example))
        return cast(LayerPoint, point).residual_squares(perturbations, batch)

    def _node_squares(self, point: Point[Any], batch: Any, start: Start) -> Sums:
        return cast(NodePoint, point).node_squares(self.propagated, Draws(range(2), 0, start.example), batch)


def case_of(engine: Engine[Any], batch: Any, seed: int) -> Case:
    """Return what the checks are made with, at random points and along random directions."""
    size = batch_size(batch)
    parts = [take(batch, start, stop) for start, stop in pairwise(sorted({0, 1, (size + 1) // 2, size}))]
    oracle = oracle_of_batches(engine, [batch])
    vectors = [
        nearby_point(oracle, seed),
        nearby_point(oracle, seed + 1),
        *(scaled_signs(oracle, seed, k) for k in (0, 1)),
    ]
    point, other, u, v = (engine.native(dict(vector.arrays)) for vector in vectors)
    before, units = engine.to_numpy(engine.parameters()), _layer_units(engine, parts, point)
    return Case(engine, batch, parts, before, point, other, (u, v), units, _propagated(engine, parts, point))


def _layer_units(engine: Engine[Any], parts: list[Any], parameters: Arrays) -> Mapping[str, LayerUnits]:
    """Return the output units of the layers that are in every part; none if the engine does not tell its layers apart."""
    if ResidualDiagonalOracle not in engine.offers:
        return {}
    with engine.random_state(PASS_SEED, ()), engine.at(parameters) as point:
        moments = [cast(LayerPoint, point).layer_moments(engine.batch(part)) for part in parts]
        squares = [dict(zip(m.squares, engine.read(list(m.squares.values())), strict=True)) for m in moments]
    return units_of([HostMoments(read, m.outputs) for read, m in zip(squares, moments, strict=True)])


def _propagated(engine: Engine[Any], parts: list[Any], parameters: Arrays) -> frozenset[str]:
    """Return the groups below curved operations in every part; none if the engine does not propagate curvature."""
    if NodeCurvatureOracle not in engine.offers:
        return frozenset()
    with engine.random_state(PASS_SEED, ()), engine.at(parameters) as point:
        counts = [cast(NodePoint, point).node_counts(engine.batch(part)) for part in parts]
    return frozenset(name for name in counts[0] if all(count.get(name) for count in counts))


def oracle_of_batches(engine: Engine[Any], batches: list[Any]) -> DatasetOracle:
    """Return the oracle of an engine on batches in a form that users give to it."""
    dataset = Dataset(Batches(batches, static=True), engine.batch, engine.host_rows)
    return DatasetOracle(engine, dataset, outputs_per_example=1)
