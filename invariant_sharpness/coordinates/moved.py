"""The same loss, looked at from another point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.protocol import (
    BlockProductOracle,
    CurvatureOracle,
    ExampleGradientOracle,
    GaussNewtonDiagonalOracle,
    GaussNewtonOracle,
    JacobianOracle,
    ParameterGroup,
    Rows,
    SampledGaussNewtonOracle,
    SubsetOracle,
    require,
)
from invariant_sharpness.vector import ParameterVector


@dataclass(frozen=True, slots=True)
class Moved:
    """An oracle whose model "is" at other parameters; the model itself stays where it is.

    Parameters
    ----------
    base
        The oracle of the model.
    parameters
        Where metrics shall measure it, such as a rescaled copy of ``base.parameters``.
    """

    base: CurvatureOracle
    parameters: ParameterVector

    @property
    def xp(self) -> Any:
        return self.base.xp

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        return self.base.groups

    def loss(self, parameters: ParameterVector, /) -> float:
        return self.base.loss(parameters)

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        return self.base.gradient(parameters)

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        return self.base.hessian_vector_product(parameters, vector)

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        base = require(self.base, BlockProductOracle, metric="Moved")
        return base.hessian_vector_products(parameters, vectors)

    def from_numpy(self, arrays: Mapping[str, npt.NDArray[np.float64]], /) -> ParameterVector:
        return self.base.from_numpy(arrays)

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, npt.NDArray[np.float64]]:
        return self.base.to_numpy(vector)

    @property
    def outputs_per_example(self) -> int:
        return require(self.base, GaussNewtonDiagonalOracle, metric="Moved").outputs_per_example

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        base = require(self.base, GaussNewtonDiagonalOracle, metric="Moved")
        return base.gauss_newton_diagonal(parameters, names)

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        base = require(self.base, GaussNewtonDiagonalOracle, metric="Moved")
        return base.output_curvature(parameters, direction, seed)

    @property
    def samples_outputs(self) -> bool:
        return require(self.base, SampledGaussNewtonOracle, metric="Moved").samples_outputs

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        base = require(self.base, SampledGaussNewtonOracle, metric="Moved")
        return base.sampled_gauss_newton_diagonal(parameters, names, draws, seed)

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        base = require(self.base, GaussNewtonOracle, metric="Moved")
        return base.gauss_newton_vector_product(parameters, vector)

    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        return require(self.base, JacobianOracle, metric="Moved").outputs(parameters, examples)

    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        base = require(self.base, JacobianOracle, metric="Moved")
        return base.jacobian_vector_product(parameters, vector, examples)

    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        base = require(self.base, JacobianOracle, metric="Moved")
        return base.vector_jacobian_product(parameters, cotangents)

    @property
    def examples(self) -> int:
        return require(self.base, SubsetOracle, metric="Moved").examples

    def subset(self, examples: Sequence[int], /) -> Moved:
        base = require(self.base, SubsetOracle, metric="Moved")
        return Moved(base.subset(examples), self.parameters)

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        base = require(self.base, ExampleGradientOracle, metric="Moved")
        return base.gradient_second_moment(parameters)

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        base = require(self.base, ExampleGradientOracle, metric="Moved")
        return base.directional_second_moment(parameters, direction)
