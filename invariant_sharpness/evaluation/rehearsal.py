"""A stand-in for an oracle, on which a measurement is rehearsed: it notes what it is asked for, and computes next to nothing.

Its loss is a quadratic with a diagonal Hessian. What decides which way a metric takes is asked of the oracle itself, once: the affine test, the layers,
and what takes one example at a time. So a metric asks the stand-in for what it will ask the oracle for, unless it iterates until something converges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.coordinates.forwarding import Forwarding
from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.evaluation.call_costs import Account, Call
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

BLOCK = 4
"""Products are timed one by one, or in blocks of at most so many vectors."""


class Rehearsal(Forwarding):
    """An oracle that answers at once, and notes which calls its answers would have taken.

    Parameters
    ----------
    base
        The oracle that it stands for.
    spread
        Over how many powers of ten the curvatures are spread: what iterates until it converges takes the more steps the wider they are.
    account
        Where the calls are noted.
    share
        The share of the examples that it has.
    """

    def __init__(self, base: CurvatureOracle, spread: float, account: Account, share: float = 1.0) -> None:
        self.base, self.account = base, account
        self._spread, self._share = spread, share
        self._parameters = self._host(base.parameters)

    @property
    def xp(self) -> Any:
        return xp

    @property
    def parameters(self) -> ParameterVector:
        return self._parameters

    def loss(self, parameters: ParameterVector, /) -> float:
        self._ask("loss", lambda oracle, at: oracle.loss(at))
        moved = parameters - self._parameters
        return self._loss + moved.dot(moved * self._curvature) / 2

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        self._ask("gradient", lambda oracle, at: oracle.gradient(at))
        return self._curvature * (parameters - self._parameters) + self._slope

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        self._ask("product with H", lambda oracle, at: oracle.hessian_vector_product(at, at))
        return self._curvature * vector

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        block = min(len(vectors), BLOCK)
        what, calls = f"products with H, {block} at once", len(vectors) / block
        self._ask(what, lambda oracle, at: oracle.hessian_vector_products(at, [at] * block), calls)
        return [self._curvature * vector for vector in vectors]

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        self._ask("product with G", lambda oracle, at: oracle.gauss_newton_vector_product(at, at))
        return self._curvature * vector

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        like = self._parameters.arrays
        return ParameterVector(xp, {name: np.array(arrays[name], dtype=array.dtype) for name, array in like.items()})

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, Any]:
        return {name: array.astype(np.float64) for name, array in vector.arrays.items()}

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        self._ask(f"diag(G) of {_words(names)}", lambda oracle, at: oracle.gauss_newton_diagonal(at, names))
        return self._reached.only(names)

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        few = range(min(len(draws), BLOCK))
        self._ask(
            f"{len(few)} samples of the outputs for {_words(names)}",
            lambda oracle, at: oracle.sampled_gauss_newton_diagonal(at, names, few, seed),
            len(draws) / len(few),
        )
        noise = prng.uniform(self, seed, draws.start)
        return (self._reached * (noise * 0.1 + self._ones)).only(names)

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        self._ask_for_test(seed)
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
        self._ask_for_test(seed, self._part(examples))
        return self._ones.only(names), self._ones * 0.0

    def output_form(self, parameters: ParameterVector, /) -> OutputForm:
        able = require(self.base, OutputFormOracle, metric="plan")
        self._ask("form of the outputs", lambda oracle, at: oracle.output_form(at))
        return self.account.answer("form", lambda: able.output_form(self._at))

    def layer_units(self, parameters: ParameterVector, /) -> Mapping[str, LayerUnits]:
        self._ask("scales of the output units", lambda oracle, at: oracle.layer_units(at))
        able = capability(self.base, ResidualDiagonalOracle)
        return {} if able is None else self.account.answer("layers", lambda: able.layer_units(self._at))

    def residual_diagonal(self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits]) -> ParameterVector:
        self._ask_for_draws(units, sum(units[name].outputs for name in self._weights(units)))
        return (self._curvature * 0.1).only(units)

    def sampled_residual_diagonal(
        self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits], draws: range, seed: int
    ) -> ParameterVector:
        self._ask_for_draws(units, len(draws) * len(self._weights(units)))
        return (self._curvature * prng.uniform(self, seed, draws.start) * 0.1).only(units)

    def residual_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /, names: frozenset[str]
    ) -> list[ParameterVector]:
        self._ask(f"R on {_words(names)}", lambda o, at: o.residual_vector_products(at, [at], names), len(vectors))
        return [(self._curvature * vector * 0.1).only(names) for vector in vectors]

    def propagated_residual_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        self._ask(
            f"draw at the operations above {_words(names)}",
            lambda oracle, at: oracle.propagated_residual_diagonal(at, names, range(1), seed),
            len(draws),
        )
        return (self._curvature * prng.uniform(self, seed, draws.start) * 0.1).only(names)

    def squared_one_by_one(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        able = capability(self.base, OneByOneOracle)
        return {} if able is None else self.account.answer("alone", lambda: able.squared_one_by_one(self._at))

    def node_counts(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        able = require(self.base, NodeCurvatureOracle, metric="plan")
        return self.account.answer("nodes", lambda: able.node_counts(self._at))

    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        self._ask("outputs", lambda oracle, at: oracle.outputs(at, oracle.examples), self._part(examples))
        return self._rows(examples, 0)

    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        self._ask(
            "product with the Jacobian",
            lambda oracle, at: oracle.jacobian_vector_product(at, at, oracle.examples),
            self._part(examples),
        )
        return self._rows(examples, 1)

    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        self._ask(
            "product with the transposed Jacobian",
            lambda oracle, at: oracle.vector_jacobian_product(at, oracle.outputs(at, oracle.examples)),
            self._part(len(cotangents)),
        )
        return self._slope * float(np.sum(cotangents))

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        self._ask("second moment", lambda oracle, at: oracle.gradient_second_moment(at))
        return self._slope * self._slope + self._curvature

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        self._ask("moment in a direction", lambda oracle, at: oracle.directional_second_moment(at, at))
        return direction.dot(direction * self._curvature)

    @property
    def examples(self) -> int:
        able = require(self.base, SubsetOracle, metric="plan")
        return round(self._share * self.account.answer("examples", lambda: able.examples))

    def subset(self, examples: Sequence[int], /) -> Rehearsal:
        share = self._share * len(examples) / max(self.examples, 1)
        return Rehearsal(self.base, self._spread, self.account, share)

    def _rows(self, examples: int, draw: int) -> Rows:
        rows = min(examples, self.examples)
        return np.random.default_rng(draw).normal(size=(rows, self.outputs_per_example))

    def _ask(self, kind: str, call: Call, passes: float = 1.0) -> None:
        """Note a call that takes the oracle and its parameters."""
        self.account.add(kind, call, passes * self._share)

    def _ask_for_test(self, seed: int, passes: float = 1.0) -> None:
        self._ask("affine test", lambda oracle, at: oracle.output_curvature(at, at, seed), passes)

    def _ask_for_draws(self, units: Mapping[str, LayerUnits], draws: int) -> None:
        """Draws at layers take about as long as one in the middle of them: those below pass through more of the network."""
        weights = self._weights(units)
        if not weights:
            return
        middle = weights[len(weights) // 2]
        one = {name: of for name, of in units.items() if self._owners[name] == middle or name == middle}
        self._ask(f"draw at {middle}", lambda oracle, at: oracle.sampled_residual_diagonal(at, one, range(1), 0), draws)

    def _part(self, examples: int) -> float:
        return min(1.0, examples / max(self.examples, 1))

    def _weights(self, units: Mapping[str, LayerUnits]) -> list[str]:
        """One group of each layer: a bias comes with its weight."""
        return [name for name in units if self._owners[name] not in units]

    @cached_property
    def _owners(self) -> dict[str, str | None]:
        return {group.name: group.owner for group in self.groups}

    @property
    def _at(self) -> ParameterVector:
        """Where the oracle itself is asked."""
        return self.base.parameters

    @property
    def _loss(self) -> float:
        return float(self.account.answer("loss", lambda: self.base.loss(self._at)))

    @property
    def _slope(self) -> ParameterVector:
        found: ParameterVector = self.account.answer("slope", lambda: self._host(self.base.gradient(self._at)))
        return found

    def _tested(self, seed: int, direction: ParameterVector) -> tuple[ParameterVector, ParameterVector]:
        """What the affine test finds, when it is first asked."""
        able = require(self.base, GaussNewtonDiagonalOracle, metric="plan")

        def found() -> tuple[ParameterVector, ParameterVector]:
            along = self.base.from_numpy(self.to_numpy(direction))
            first, second = able.output_curvature(self._at, along, seed)
            return self._host(first), self._host(second)

        pair: tuple[ParameterVector, ParameterVector] = self.account.answer("test", found)
        return pair

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


def _words(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
