"""The oracle in other coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.protocol import (
    BlockProductOracle,
    CurvatureOracle,
    ExampleGradientOracle,
    GaussNewtonDiagonalOracle,
    GaussNewtonOracle,
    HostArrays,
    JacobianOracle,
    ParameterGroup,
    Rows,
    SampledGaussNewtonOracle,
    SubsetOracle,
    require,
)
from invariant_sharpness.vector import ParameterVector


class Scaled:
    r"""The loss in the coordinates :math:`\phi = \theta / s`: :math:`\tilde L(\phi) = L(s \circ \phi)`.

    Its gradient is :math:`s \circ g`, its Hessian :math:`S H S` and its Jacobian :math:`J S`, with
    :math:`S = \operatorname{diag}(s)`. If the scale is *equivariant*, :math:`s(D\theta) = D s(\theta)`, all of them stay
    exactly the same when the network is rescaled by ``D`` without changing its function: every raw measure becomes
    invariant, value by value.

    A scaled oracle is an oracle, and it can do what the oracle beneath it can. Cost: one multiplication
    per parameter and product.

    Parameters
    ----------
    base
        The oracle in the model's own coordinates.
    scale
        One positive number per parameter.

    Raises
    ------
    NonFiniteError
        If a scale is not positive and finite; names the group.
    """

    def __init__(self, base: CurvatureOracle, scale: ParameterVector) -> None:
        for name, values in base.to_numpy(scale).items():
            if not (np.isfinite(values).all() and (values > 0).all()):
                msg = f"the scale of {name!r} is not positive and finite everywhere: it cannot be a coordinate"
                raise NonFiniteError(msg)
        self.base = base
        self.scale = scale
        self._parameters = base.parameters / scale

    @property
    def xp(self) -> Any:
        return self.base.xp

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        return self.base.groups

    @property
    def parameters(self) -> ParameterVector:
        return self._parameters

    def loss(self, parameters: ParameterVector, /) -> float:
        return self.base.loss(self._point(parameters))

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        return self.scale * self.base.gradient(self._point(parameters))

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        point = self._point(parameters)
        return self.scale * self.base.hessian_vector_product(point, self.scale * vector)

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        base = require(self.base, BlockProductOracle, metric="Scaled")
        products = base.hessian_vector_products(self._point(parameters), [self.scale * vector for vector in vectors])
        return [self.scale * product for product in products]

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        return self.base.from_numpy(arrays)

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, npt.NDArray[np.float64]]:
        return self.base.to_numpy(vector)

    @property
    def outputs_per_example(self) -> int:
        return require(self.base, GaussNewtonDiagonalOracle, metric="Scaled").outputs_per_example

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        base = require(self.base, GaussNewtonDiagonalOracle, metric="Scaled")
        return self.scale * self.scale * base.gauss_newton_diagonal(self._point(parameters), names)

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        base = require(self.base, GaussNewtonDiagonalOracle, metric="Scaled")
        first, second = base.output_curvature(self._point(parameters), self.scale * direction, seed)
        return self.scale * first, self.scale * second

    @property
    def samples_outputs(self) -> bool:
        return require(self.base, SampledGaussNewtonOracle, metric="Scaled").samples_outputs

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        base = require(self.base, SampledGaussNewtonOracle, metric="Scaled")
        diagonal = base.sampled_gauss_newton_diagonal(self._point(parameters), names, draws, seed)
        return self.scale * self.scale * diagonal

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        base = require(self.base, GaussNewtonOracle, metric="Scaled")
        return self.scale * base.gauss_newton_vector_product(self._point(parameters), self.scale * vector)

    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        base = require(self.base, JacobianOracle, metric="Scaled")
        return base.outputs(self._point(parameters), examples)

    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        base = require(self.base, JacobianOracle, metric="Scaled")
        return base.jacobian_vector_product(self._point(parameters), self.scale * vector, examples)

    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        base = require(self.base, JacobianOracle, metric="Scaled")
        return self.scale * base.vector_jacobian_product(self._point(parameters), cotangents)

    @property
    def examples(self) -> int:
        return require(self.base, SubsetOracle, metric="Scaled").examples

    def subset(self, examples: Sequence[int], /) -> Scaled:
        base = require(self.base, SubsetOracle, metric="Scaled")
        return Scaled(base.subset(examples), self.scale)

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        base = require(self.base, ExampleGradientOracle, metric="Scaled")
        return self.scale * self.scale * base.gradient_second_moment(self._point(parameters))

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        base = require(self.base, ExampleGradientOracle, metric="Scaled")
        return base.directional_second_moment(self._point(parameters), self.scale * direction)

    def _point(self, parameters: ParameterVector) -> ParameterVector:
        """The model's own coordinates; exactly where the model is now, for the parameters of now."""
        return self.base.parameters if parameters is self.parameters else self.scale * parameters
