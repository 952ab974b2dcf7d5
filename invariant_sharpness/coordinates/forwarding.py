"""An oracle that answers as the one beneath it does, but for what its own coordinates change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    BlockCurvatureOracle,
    BlockProductOracle,
    CurvatureOracle,
    ExampleGradientOracle,
    GaussNewtonDiagonalOracle,
    GaussNewtonOracle,
    HessianOperator,
    HostArrays,
    JacobianOracle,
    LayerUnits,
    NodeCurvatureOracle,
    OneByOneOracle,
    OutputForm,
    OutputFormOracle,
    ParameterGroup,
    ResidualDiagonalOracle,
    ResidualProductOracle,
    Rows,
    SampledGaussNewtonOracle,
    SubsetOracle,
    require,
)
from invariant_sharpness.protocol.requirements import Capability


class Forwarding:
    """An oracle that passes every method on to ``base``, those of the optional capabilities included.

    A subclass says where its parameters are, what a subset of it is, and which answers its coordinates change. Whether ``base`` has a
    capability is asked when it is used, by :func:`invariant_sharpness.protocol.capability`.
    """

    base: CurvatureOracle

    @property
    def xp(self) -> Any:
        return self.base.xp

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        return self.base.groups

    @property
    def reduction(self) -> str:
        """Whether the loss is a mean over examples, as of oracles that do not say it, or a sum."""
        return str(getattr(self.base, "reduction", "mean"))

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names of the parameter groups of the model that are not measured; none of an oracle that does not say it."""
        return tuple(getattr(self.base, "left_out", ()))

    def loss(self, parameters: ParameterVector, /) -> float:
        return self.base.loss(parameters)

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        return self.base.gradient(parameters)

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        return self.base.hessian_vector_product(parameters, vector)

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        return self._able(BlockProductOracle).hessian_vector_products(parameters, vectors)

    def hessian_operator(self, parameters: ParameterVector, /) -> HessianOperator:
        """Multiply as this oracle does; a subclass that changes no product, or knows how it does, passes the linearization on."""
        return partial(self.hessian_vector_products, parameters)

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        return self.base.from_numpy(arrays)

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, npt.NDArray[np.float64]]:
        return self.base.to_numpy(vector)

    @property
    def outputs_per_example(self) -> int:
        return self._able(GaussNewtonDiagonalOracle).outputs_per_example

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        return self._able(GaussNewtonDiagonalOracle).gauss_newton_diagonal(parameters, names)

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        return self._able(GaussNewtonDiagonalOracle).output_curvature(parameters, direction, seed)

    def block_curvature(
        self,
        parameters: ParameterVector,
        direction: ParameterVector,
        /,
        names: frozenset[str],
        examples: int,
        seed: int,
    ) -> tuple[ParameterVector, ParameterVector]:
        base = self._able(BlockCurvatureOracle)
        return base.block_curvature(parameters, direction, names, examples, seed)

    def output_form(self, parameters: ParameterVector, /) -> OutputForm:
        return self._able(OutputFormOracle).output_form(parameters)

    @property
    def samples_outputs(self) -> bool:
        return self._able(SampledGaussNewtonOracle).samples_outputs

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        return self._able(SampledGaussNewtonOracle).sampled_gauss_newton_diagonal(parameters, names, draws, seed)

    def layer_units(self, parameters: ParameterVector, /) -> Mapping[str, LayerUnits]:
        return self._able(ResidualDiagonalOracle).layer_units(parameters)

    def residual_diagonal(self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits]) -> ParameterVector:
        return self._able(ResidualDiagonalOracle).residual_diagonal(parameters, units)

    def sampled_residual_diagonal(
        self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits], draws: range, seed: int
    ) -> ParameterVector:
        return self._able(ResidualDiagonalOracle).sampled_residual_diagonal(parameters, units, draws, seed)

    def residual_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /, names: frozenset[str]
    ) -> list[ParameterVector]:
        return self._able(ResidualProductOracle).residual_vector_products(parameters, vectors, names)

    def node_counts(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        return self._able(NodeCurvatureOracle).node_counts(parameters)

    def propagated_residual_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        base = self._able(NodeCurvatureOracle)
        return base.propagated_residual_diagonal(parameters, names, draws, seed)

    def squared_one_by_one(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        return self._able(OneByOneOracle).squared_one_by_one(parameters)

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        return self._able(GaussNewtonOracle).gauss_newton_vector_product(parameters, vector)

    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        return self._able(JacobianOracle).outputs(parameters, examples)

    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        return self._able(JacobianOracle).jacobian_vector_product(parameters, vector, examples)

    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        return self._able(JacobianOracle).vector_jacobian_product(parameters, cotangents)

    @property
    def examples(self) -> int:
        return self._able(SubsetOracle).examples

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        return self._able(ExampleGradientOracle).gradient_second_moment(parameters)

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        return self._able(ExampleGradientOracle).directional_second_moment(parameters, direction)

    def _able(self, capability: type[Capability]) -> Capability:
        """Return the oracle beneath with the capability, or raise an error that says what is missing."""
        return require(self.base, capability, metric=type(self).__name__)
