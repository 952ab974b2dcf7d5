"""The loss in scaled coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from invariant_sharpness.coordinates.forwarding import Forwarding
from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.parameters.fitting import require_fitting
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    BlockCurvatureOracle,
    BlockProductOracle,
    CurvatureOracle,
    ExampleGradientOracle,
    GaussNewtonDiagonalOracle,
    GaussNewtonOracle,
    HessianOperator,
    HessianOperatorOracle,
    JacobianOracle,
    LayerUnits,
    NodeCurvatureOracle,
    OneByOneOracle,
    OutputForm,
    OutputFormOracle,
    ResidualDiagonalOracle,
    ResidualProductOracle,
    Rows,
    SampledGaussNewtonOracle,
    SubsetOracle,
)


class Scaled(Forwarding):
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
        One positive number per parameter, such as those of :mod:`invariant_sharpness.coordinates.scales`.

    Raises
    ------
    ModelError
        If the scales are not those of the same network: names the first group that differs.
    NonFiniteError
        If a scale is not positive and finite; names the group.

    Notes
    -----
    Source: this library. In the coordinates ``magnitudes`` the sharpness of Keskar is the adaptive one of Kwon, Kim, Park and Choi (2021).

    Examples
    --------
    The Hessian is diag(1, 2) and the point (3, 4), so in units of the parameters the trace is 9 + 2 * 16.

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), [[3.0, 4.0]])
    >>> ish.hessian_trace(Scaled(oracle, ish.scales.magnitudes(oracle))).value
    41.0
    """

    def __init__(self, base: CurvatureOracle, scale: ParameterVector) -> None:
        require_fitting(scale, base.groups, "the scales")
        for name, values in base.to_numpy(scale).items():
            if not (np.isfinite(values).all() and (values > 0).all()):
                msg = f"the scale of {name!r} is not positive and finite everywhere: it cannot be a coordinate"
                raise NonFiniteError(msg)
        self.base = base
        self.scale = scale
        self._parameters = base.parameters / scale

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
        base = self._able(BlockProductOracle)
        products = base.hessian_vector_products(self._point(parameters), [self.scale * vector for vector in vectors])
        return [self.scale * product for product in products]

    def hessian_operator(self, parameters: ParameterVector, /) -> HessianOperator:
        multiply = self._able(HessianOperatorOracle).hessian_operator(self._point(parameters))

        def products(vectors: Sequence[ParameterVector]) -> list[ParameterVector]:
            return [self.scale * product for product in multiply([self.scale * vector for vector in vectors])]

        return products

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        base = self._able(GaussNewtonDiagonalOracle)
        return self.scale * self.scale * base.gauss_newton_diagonal(self._point(parameters), names)

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        base = self._able(GaussNewtonDiagonalOracle)
        first, second = base.output_curvature(self._point(parameters), self.scale * direction, seed)
        return self.scale * first, self.scale * second

    def block_curvature(
        self,
        parameters: ParameterVector,
        direction: ParameterVector,
        /,
        names: frozenset[str],
        examples: int,
        seed: int,
    ) -> tuple[ParameterVector, ParameterVector]:
        base, along = self._able(BlockCurvatureOracle), self.scale * direction
        first, second = base.block_curvature(self._point(parameters), along, names, examples, seed)
        return self.scale * first, self.scale * second

    def output_form(self, parameters: ParameterVector, /) -> OutputForm:
        return self._able(OutputFormOracle).output_form(self._point(parameters))

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        base = self._able(SampledGaussNewtonOracle)
        diagonal = base.sampled_gauss_newton_diagonal(self._point(parameters), names, draws, seed)
        return self.scale * self.scale * diagonal

    def layer_units(self, parameters: ParameterVector, /) -> Mapping[str, LayerUnits]:
        return self._able(ResidualDiagonalOracle).layer_units(self._point(parameters))

    def residual_diagonal(self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits]) -> ParameterVector:
        base = self._able(ResidualDiagonalOracle)
        return self.scale * self.scale * base.residual_diagonal(self._point(parameters), units)

    def sampled_residual_diagonal(
        self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits], draws: range, seed: int
    ) -> ParameterVector:
        base = self._able(ResidualDiagonalOracle)
        drawn = base.sampled_residual_diagonal(self._point(parameters), units, draws, seed)
        return self.scale * self.scale * drawn

    def residual_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /, names: frozenset[str]
    ) -> list[ParameterVector]:
        base, scaled = self._able(ResidualProductOracle), [self.scale * vector for vector in vectors]
        products = base.residual_vector_products(self._point(parameters), scaled, names)
        return [self.scale * product for product in products]

    def squared_one_by_one(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        return self._able(OneByOneOracle).squared_one_by_one(self._point(parameters))

    def node_counts(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        return self._able(NodeCurvatureOracle).node_counts(self._point(parameters))

    def propagated_residual_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        base = self._able(NodeCurvatureOracle)
        drawn = base.propagated_residual_diagonal(self._point(parameters), names, draws, seed)
        return self.scale * self.scale * drawn

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        base = self._able(GaussNewtonOracle)
        return self.scale * base.gauss_newton_vector_product(self._point(parameters), self.scale * vector)

    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        return self._able(JacobianOracle).outputs(self._point(parameters), examples)

    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        return self._able(JacobianOracle).jacobian_vector_product(
            self._point(parameters), self.scale * vector, examples
        )

    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        base = self._able(JacobianOracle)
        return self.scale * base.vector_jacobian_product(self._point(parameters), cotangents)

    def subset(self, examples: Sequence[int], /) -> Scaled:
        base = self._able(SubsetOracle)
        return Scaled(base.subset(examples), self.scale)

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        base = self._able(ExampleGradientOracle)
        return self.scale * self.scale * base.gradient_second_moment(self._point(parameters))

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        return self._able(ExampleGradientOracle).directional_second_moment(
            self._point(parameters), self.scale * direction
        )

    def _point(self, parameters: ParameterVector) -> ParameterVector:
        """Return to the model's own coordinates; exactly to where the model is now, for the parameters of now."""
        return self.base.parameters if parameters is self.parameters else self.scale * parameters
