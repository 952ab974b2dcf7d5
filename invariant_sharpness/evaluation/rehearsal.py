"""A stand-in for an oracle, on which a measurement is rehearsed: it counts what it is asked for, and computes next to nothing.

Its loss is a quadratic with a diagonal Hessian. What decides which way a metric takes is asked of the oracle itself, once: the affine test, the layers,
and what takes one example at a time. So a metric asks the stand-in for what it will ask the oracle for, unless it iterates until something converges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import array_api_compat.numpy as xp
import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.coordinates.forwarding import Forwarding
from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.estimators.diagonal_plan import EXAMPLES_OF_OVERHEAD, GRADIENTS_PER_PASS_OF_POSITIONS
from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    HostArrays,
    LayerUnits,
    NodeCurvatureOracle,
    OneByOneOracle,
    OutputForm,
    OutputFormOracle,
    ResidualDiagonalOracle,
    Rows,
    SubsetOracle,
    capability,
    require,
)

LOSS, SQUARES, PASS, TEST, SCALES, DRAW = 1 / 3, 1.5, 0.65, 1.2, 1.3, 0.55
"""In gradients, as ``docs/experiments/draw_costs.py`` measures: a forward pass, squared gradients of examples, a backward pass with squares, the affine
test, the scales of the output units, and a draw at one layer."""

T = TypeVar("T")


@dataclass
class Spent:
    """What has been asked for, in gradients, and what has been asked of the oracle itself.

    Parameters
    ----------
    gradients
        The sum.
    answers
        The oracle's answers, by method.
    """

    gradients: float
    answers: dict[str, Any]


class Rehearsal(Forwarding):
    """An oracle that answers at once, and adds up what its answers would cost.

    Parameters
    ----------
    base
        The oracle that it stands for.
    spread
        Over how many powers of ten the curvatures are spread: what iterates until it converges takes the more steps the wider they are.
    spent
        Where costs are added up; anew by default.
    share
        The share of the examples that it has.
    """

    def __init__(self, base: CurvatureOracle, spread: float, spent: Spent | None = None, share: float = 1.0) -> None:
        self.base = base
        self.spent = Spent(0.0, {}) if spent is None else spent
        self._spread, self._share = spread, share
        self._parameters = self._host(base.parameters)

    @property
    def xp(self) -> Any:
        return xp

    @property
    def parameters(self) -> ParameterVector:
        return self._parameters

    def loss(self, parameters: ParameterVector, /) -> float:
        self._spend(LOSS)
        moved = parameters - self._parameters
        return self._loss + moved.dot(moved * self._curvature) / 2

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        self._spend(1.0)
        return self._curvature * (parameters - self._parameters) + self._slope

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        return self.hessian_vector_products(parameters, [vector])[0]

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        self._spend(GRADIENTS_PER_PRODUCT * len(vectors))
        return [self._curvature * vector for vector in vectors]

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        return self.hessian_vector_products(parameters, [vector])[0]

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        like = self._parameters.arrays
        return ParameterVector(xp, {name: np.array(arrays[name], dtype=array.dtype) for name, array in like.items()})

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, Any]:
        return {name: array.astype(np.float64) for name, array in vector.arrays.items()}

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        self._spend_squares(names, self.outputs_per_example)
        return self._reached.only(names)

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        self._spend_squares(names, len(draws))
        noise = prng.uniform(self, seed, draws.start)
        return (self._reached * (noise * 0.1 + self._ones)).only(names)

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        self._spend(TEST)
        return self._tested(seed, direction)

    def block_curvature(
        self,
        parameters: ParameterVector,
        direction: ParameterVector,
        /,
        names: frozenset[str],
        examples: int,
        seed: int,
    ) -> tuple[ParameterVector, ParameterVector]:
        self._spend(TEST * min(1.0, examples / max(self.examples, 1)))
        del parameters, direction, seed
        return self._ones.only(names), self._ones * 0.0

    def output_form(self, parameters: ParameterVector, /) -> OutputForm:
        able = require(self.base, OutputFormOracle, metric="plan")
        self._spend(LOSS)
        return self._asked("form", lambda: able.output_form(self.base.parameters))

    def layer_units(self, parameters: ParameterVector, /) -> Mapping[str, LayerUnits]:
        self._spend(SCALES)
        return self._layers

    def residual_diagonal(self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits]) -> ParameterVector:
        self._spend(DRAW * sum(units[name].outputs for name in self._weights(units)))
        return (self._curvature * 0.1).only(units)

    def sampled_residual_diagonal(
        self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits], draws: range, seed: int
    ) -> ParameterVector:
        self._spend(DRAW * len(draws) * len(self._weights(units)))
        return (self._curvature * prng.uniform(self, seed, draws.start) * 0.1).only(units)

    def propagated_residual_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        counts = self.node_counts(parameters)
        self._spend(DRAW * len(draws) * max((counts[name] for name in names), default=0))
        return (self._curvature * prng.uniform(self, seed, draws.start) * 0.1).only(names)

    def squared_one_by_one(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        return self._one_by_one

    def node_counts(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        able = require(self.base, NodeCurvatureOracle, metric="plan")
        return self._asked("nodes", lambda: able.node_counts(self.base.parameters))

    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        return self._rows(examples, LOSS, 0)

    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        del parameters, vector
        return self._rows(examples, GRADIENTS_PER_PRODUCT, 1)

    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        self._spend(self._part(len(cotangents)))
        return self._slope * float(np.sum(cotangents))

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        self._spend(SQUARES + self._alone(frozenset(group.name for group in self.groups)))
        return self._slope * self._slope + self._curvature

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        self._spend(GRADIENTS_PER_PRODUCT)
        return direction.dot(direction * self._curvature)

    @property
    def examples(self) -> int:
        able = require(self.base, SubsetOracle, metric="plan")
        return round(self._share * self._asked("examples", lambda: able.examples))

    def subset(self, examples: Sequence[int], /) -> Rehearsal:
        share = self._share * len(examples) / max(self.examples, 1)
        return Rehearsal(self.base, self._spread, self.spent, share)

    def _rows(self, examples: int, cost: float, draw: int) -> Rows:
        self._spend(cost * self._part(examples))
        rows = min(examples, self.examples)
        return np.random.default_rng(draw).normal(size=(rows, self.outputs_per_example))

    def _spend(self, gradients: float) -> None:
        self.spent.gradients += gradients * self._share

    def _spend_squares(self, names: frozenset[str], terms: int) -> None:
        positions = any(units.outputs > len(units.scale) for units in self._layers.values())
        self._spend((GRADIENTS_PER_PASS_OF_POSITIONS if positions else PASS) * terms + (terms + 1) * self._alone(names))

    def _alone(self, names: frozenset[str]) -> float:
        """What a pass over examples one at a time costs, if a group takes it."""
        count = max((examples for name, examples in self._one_by_one.items() if name in names), default=0)
        return count * (EXAMPLES_OF_OVERHEAD + 1) / (EXAMPLES_OF_OVERHEAD + count)

    def _part(self, examples: int) -> float:
        return min(1.0, examples / max(self.examples, 1))

    def _weights(self, units: Mapping[str, LayerUnits]) -> list[str]:
        """One group of each layer: a bias comes with its weight."""
        owners = {group.name: group.owner for group in self.groups}
        return [name for name in units if owners[name] not in units]

    @property
    def _loss(self) -> float:
        return float(self._asked("loss", lambda: self.base.loss(self.base.parameters)))

    @property
    def _slope(self) -> ParameterVector:
        found: ParameterVector = self._asked("slope", lambda: self._host(self.base.gradient(self.base.parameters)))
        return found

    @property
    def _layers(self) -> Mapping[str, LayerUnits]:
        able = capability(self.base, ResidualDiagonalOracle)
        return {} if able is None else self._asked("layers", lambda: able.layer_units(self.base.parameters))

    @property
    def _one_by_one(self) -> Mapping[str, int]:
        able = capability(self.base, OneByOneOracle)
        return {} if able is None else self._asked("alone", lambda: able.squared_one_by_one(self.base.parameters))

    def _tested(self, seed: int, direction: ParameterVector) -> tuple[ParameterVector, ParameterVector]:
        """What the affine test finds, when it is first asked."""
        able = require(self.base, GaussNewtonDiagonalOracle, metric="plan")

        def found() -> tuple[ParameterVector, ParameterVector]:
            along = self.base.from_numpy(self.to_numpy(direction))
            first, second = able.output_curvature(self.base.parameters, along, seed)
            return self._host(first), self._host(second)

        pair: tuple[ParameterVector, ParameterVector] = self._asked("test", found)
        return pair

    def _asked(self, what: str, ask: Callable[[], T]) -> T:
        """What the oracle has answered, or answers now."""
        if what not in self.spent.answers:
            self.spent.answers[what] = ask()
        answer: T = self.spent.answers[what]
        return answer

    @cached_property
    def _ones(self) -> ParameterVector:
        return self._parameters.map(np.ones_like)

    @cached_property
    def _curvature(self) -> ParameterVector:
        """Curvatures spread evenly over powers of ten."""
        return prng.uniform(self, 0, 1).map(lambda array: 10.0 ** (self._spread * (array - 1) / 2))

    @property
    def _reached(self) -> ParameterVector:
        """The curvature of the entries that the affine test reaches."""
        slopes, _ = self._tested(0, magnitudes(self))
        return ParameterVector(
            xp, {name: array * (slopes[name] != 0) for name, array in self._curvature.arrays.items()}
        )

    def _host(self, vector: ParameterVector) -> ParameterVector:
        """A vector of the oracle, as arrays of NumPy in its precision."""
        host = self.base.to_numpy(vector)
        bits = {name: int(self.base.xp.finfo(array.dtype).bits) for name, array in vector.arrays.items()}
        return ParameterVector(xp, {name: host[name].astype(f"f{max(bits[name], 32) // 8}") for name in vector.arrays})
