"""What an oracle can do beyond a Hessian-vector product: small protocols, each for those metrics that need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from invariant_sharpness.parameters.groups import Rows
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol.curvature_oracle import CurvatureOracle
from invariant_sharpness.protocol.diagonal_capabilities import (
    BlockCurvatureOracle,
    GaussNewtonDiagonalOracle,
    SampledGaussNewtonOracle,
)

HessianOperator = Callable[[Sequence[ParameterVector]], list[ParameterVector]]
r"""From vectors to their products with the Hessian at one point, :math:`v \mapsto \nabla^2 L(\theta) v`."""


@runtime_checkable
class BlockProductOracle(CurvatureOracle, Protocol):
    """An oracle that multiplies the Hessian with many vectors in one pass over the data.

    Each batch is linearized once, for all vectors.
    """

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        r"""Products :math:`\nabla^2 L(\theta) v_1, \nabla^2 L(\theta) v_2, \dots`, as if one by one."""
        ...


@runtime_checkable
class HessianOperatorOracle(CurvatureOracle, Protocol):
    """An oracle that linearizes its gradient once for products that are asked for one after the other."""

    def hessian_operator(self, parameters: ParameterVector, /) -> HessianOperator:
        r"""The Hessian :math:`\nabla^2 L(\theta)` as a function of vectors.

        Whoever holds it holds the linearization, which may take as much memory as a gradient takes. It is valid as long as the
        model and its data stay what they are.
        """
        ...


@runtime_checkable
class GaussNewtonOracle(CurvatureOracle, Protocol):
    """An oracle that multiplies with the generalized Gauss-Newton matrix."""

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        r"""Product :math:`G v = E_n[J_n^T \Lambda_n J_n v]`, without forming the matrix.

        For cross-entropy G is also the Fisher information matrix. Where a loss is not convex in the outputs, as
        normalized cross-entropy is not, G is indefinite.
        """
        ...


@runtime_checkable
class JacobianOracle(CurvatureOracle, Protocol):
    r"""An oracle that shows the outputs of its first examples, and multiplies with their Jacobian.

    An example has M outputs, all its axes flattened: of n examples the outputs are an ``(n, M)`` array of float64 on
    the host, and :math:`J_n` is :math:`\partial z_n / \partial\theta`. The examples are the first ones of a pass over the
    data, the same ones and in the same order on every pass; if there are fewer than were asked for, there are fewer rows.
    """

    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        r"""Outputs :math:`z_n`."""
        ...

    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        r"""Derivatives :math:`J_n v` of the outputs along ``vector``."""
        ...

    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        r"""The sum :math:`\sum_n J_n^T c_n` over as many examples as there are rows in ``cotangents``."""
        ...


@runtime_checkable
class ExampleGradientOracle(CurvatureOracle, Protocol):
    """An oracle that can tell the examples apart: second moments of their gradients."""

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        r""":math:`E_n[(\partial_i \ell_n)^2]` for every parameter."""
        ...

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        r""":math:`E_n[(u \cdot \nabla \ell_n)^2]`."""
        ...


@runtime_checkable
class SubsetOracle(CurvatureOracle, Protocol):
    """An oracle that knows how many examples its loss is the mean of, and can be restricted to some of them."""

    @property
    def examples(self) -> int:
        """Number of examples."""
        ...

    def subset(self, examples: Sequence[int], /) -> CurvatureOracle:
        """The oracle of the mean loss over the examples with these numbers, which are held in memory; each counts once.

        Raises
        ------
        DataError
            If there is no example with one of the numbers, or there are no numbers.
        """
        ...


@runtime_checkable
class ModelPrecisionOracle(CurvatureOracle, Protocol):
    """An oracle that says with how many digits its model computes: in half precision, fewer than its vectors hold."""

    @property
    def model_rounding(self) -> float:
        """The unit of rounding of the least precise parameter in the model."""
        ...


@runtime_checkable
class DoublePrecisionOracle(CurvatureOracle, Protocol):
    """An oracle in single or half precision of whose model there can be a copy in double precision."""

    def in_double_precision(self) -> AbstractContextManager[CurvatureOracle]:
        """The oracle of a copy of the model, at the same parameters and on the same data; valid inside the ``with`` block."""
        ...


@runtime_checkable
class DifferenceOracle(CurvatureOracle, Protocol):
    """An oracle whose products with second derivatives are differences of gradients or outputs, as its model cannot be differentiated twice."""

    @property
    def differences_taken(self) -> int:
        """How many differences were computed so far."""
        ...

    def other_step(self, factor: float, /) -> AbstractContextManager[None]:
        """Take steps that are longer by this factor, inside the ``with`` block."""
        ...


@runtime_checkable
class CoordinateOracle(CurvatureOracle, Protocol):
    """An oracle in other coordinates, which can do what the oracle beneath it can."""

    @property
    def base(self) -> CurvatureOracle:
        """The oracle in the model's own coordinates."""
        ...


EVERY_CAPABILITY: frozenset[type] = frozenset(
    {
        BlockProductOracle,
        BlockCurvatureOracle,
        GaussNewtonDiagonalOracle,
        SampledGaussNewtonOracle,
        GaussNewtonOracle,
        JacobianOracle,
        ExampleGradientOracle,
        SubsetOracle,
        ModelPrecisionOracle,
    }
)
"""What an oracle of a data set can offer."""
