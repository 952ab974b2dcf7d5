"""The Gauss-Newton matrix in the place of the Hessian."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.protocol import (
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


class GaussNewton:
    r"""The same loss, with :math:`G = E_n[J_n^T \Lambda_n J_n]` as its second derivative.

    Every metric of the Hessian becomes one of G, which is a **different quantity** where the outputs are not affine in the
    parameters: :math:`H = G + E_n[\sum_k \partial \ell_n / \partial z_{nk} \nabla^2 z_{nk}]`. The two agree where the residuals vanish,
    as they nearly do for a network that fits its data. For cross-entropy G is the Fisher information matrix.

    G transforms under a rescaling as H does, so all invariances stay. Its diagonal is exact for every group, and never
    negative for a convex loss: where probes of the Hessian's diagonal drown in noise, as in transformers, normalized sharpness
    of G has no such bias.

    Parameters
    ----------
    base
        An oracle with Gauss-Newton products.

    Raises
    ------
    MissingCapabilityError
        If it has none.
    """

    def __init__(self, base: CurvatureOracle) -> None:
        self.base = base
        self._products = require(base, GaussNewtonOracle, metric="GaussNewton")

    @property
    def xp(self) -> Any:
        return self.base.xp

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        return self.base.groups

    @property
    def parameters(self) -> ParameterVector:
        return self.base.parameters

    def loss(self, parameters: ParameterVector, /) -> float:
        return self.base.loss(parameters)

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        return self.base.gradient(parameters)

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        return self._products.gauss_newton_vector_product(parameters, vector)

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        return [self.hessian_vector_product(parameters, vector) for vector in vectors]

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        return self.hessian_vector_product(parameters, vector)

    def from_numpy(self, arrays: Mapping[str, npt.NDArray[np.float64]], /) -> ParameterVector:
        return self.base.from_numpy(arrays)

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, npt.NDArray[np.float64]]:
        return self.base.to_numpy(vector)

    @property
    def outputs_per_example(self) -> int:
        return require(self.base, GaussNewtonDiagonalOracle, metric="GaussNewton").outputs_per_example

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        base = require(self.base, GaussNewtonDiagonalOracle, metric="GaussNewton")
        return base.gauss_newton_diagonal(parameters, names)

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        """The outputs count as affine, which is what makes the Gauss-Newton matrix out of the Hessian."""
        base = require(self.base, GaussNewtonDiagonalOracle, metric="GaussNewton")
        first, _ = base.output_curvature(parameters, direction, seed)
        return first, first.only([])

    @property
    def samples_outputs(self) -> bool:
        return require(self.base, SampledGaussNewtonOracle, metric="GaussNewton").samples_outputs

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        base = require(self.base, SampledGaussNewtonOracle, metric="GaussNewton")
        return base.sampled_gauss_newton_diagonal(parameters, names, draws, seed)

    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        return require(self.base, JacobianOracle, metric="GaussNewton").outputs(parameters, examples)

    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        base = require(self.base, JacobianOracle, metric="GaussNewton")
        return base.jacobian_vector_product(parameters, vector, examples)

    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        base = require(self.base, JacobianOracle, metric="GaussNewton")
        return base.vector_jacobian_product(parameters, cotangents)

    @property
    def examples(self) -> int:
        return require(self.base, SubsetOracle, metric="GaussNewton").examples

    def subset(self, examples: Sequence[int], /) -> GaussNewton:
        base = require(self.base, SubsetOracle, metric="GaussNewton")
        return GaussNewton(base.subset(examples))

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        base = require(self.base, ExampleGradientOracle, metric="GaussNewton")
        return base.gradient_second_moment(parameters)

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        base = require(self.base, ExampleGradientOracle, metric="GaussNewton")
        return base.directional_second_moment(parameters, direction)
