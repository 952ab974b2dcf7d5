"""What an oracle may offer for diagonals: those of the Gauss-Newton matrix, of what remains of the Hessian, and the affine test that tells where nothing does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol.curvature_oracle import CurvatureOracle


@runtime_checkable
class GaussNewtonDiagonalOracle(CurvatureOracle, Protocol):
    r"""An oracle that knows the diagonal of the generalized Gauss-Newton matrix exactly.

    With outputs :math:`z_n = f_\theta(x_n)`, Jacobian :math:`J_n` and output Hessian
    :math:`\Lambda_n = \nabla^2_z \ell_n = \sum_k \lambda_{nk} v_{nk} v_{nk}^T`, the matrix is
    :math:`G = E_n[J_n^T \Lambda_n J_n]`.
    """

    @property
    def outputs_per_example(self) -> int:
        """Number of outputs of one example: the number of backward passes of the diagonal."""
        ...

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        r""":math:`E_n \sum_k \lambda_{nk} (J_n^T v_{nk})^2` on the named groups, zero elsewhere."""
        ...

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        r"""First and second derivative of :math:`\phi = \sum_n c_n \cdot z_n`, group by group.

        The cotangents ``c`` are random, fixed by ``seed``; a few examples suffice. Returns
        :math:`\nabla\phi` and, for every group, :math:`(\nabla^2_{gg}\phi)\,u_g`.
        """
        ...


@runtime_checkable
class BlockCurvatureOracle(GaussNewtonDiagonalOracle, Protocol):
    """An oracle that says on which examples, and in which groups, it differentiates its outputs twice."""

    @property
    def examples(self) -> int:
        """Number of examples."""
        ...

    def block_curvature(
        self,
        parameters: ParameterVector,
        direction: ParameterVector,
        /,
        names: frozenset[str],
        examples: int,
        seed: int,
    ) -> tuple[ParameterVector, ParameterVector]:
        """Do what ``output_curvature`` does for the named groups alone, on at least so many examples, spread evenly over the data.

        Zero elsewhere. If there are no more examples, these are all.
        """
        ...


class OutputForm(NamedTuple):
    """What the form of a network says of its outputs, before any derivative is computed: they are affine in every group that is named nowhere.

    Parameters
    ----------
    curved
        Groups below an operation that is known to be curved.
    unknown
        All other groups below an operation of which nothing is known.
    by_definition
        Whether nothing has to be tested, since second derivatives of the outputs do not count.
    of_every_example
        Whether the programs were read that all examples pass, and not what some examples did: then the groups that are named
        nowhere need no test.
    """

    curved: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    by_definition: bool = False
    of_every_example: bool = False


@runtime_checkable
class OutputFormOracle(BlockCurvatureOracle, Protocol):
    """An oracle that reads off the program of the network in which groups its outputs may be curved."""

    def output_form(self, parameters: ParameterVector, /) -> OutputForm:
        """Return what the program says that an example takes. Cost: a forward pass with it."""
        ...


@runtime_checkable
class SampledGaussNewtonOracle(CurvatureOracle, Protocol):
    r"""An oracle that samples the diagonal of the Gauss-Newton matrix, however many outputs an example has.

    With :math:`\Lambda_n = R_n R_n^T` and random signs :math:`\varepsilon_n`, one for each output of each example, a draw is
    :math:`E_n[(J_n^T R_n \varepsilon_n)^2]`: unbiased and never negative.
    """

    @property
    def samples_outputs(self) -> bool:
        """Whether the loss is convex in the outputs, so that there is such a root."""
        ...

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        """The mean of the draws with these numbers on the named groups, zero elsewhere."""
        ...


class LayerUnits(NamedTuple):
    """The outputs of a layer that every example passes once, and that are affine in the layer's own parameters.

    Parameters
    ----------
    scale
        One positive number for each output unit, a power of two. If the units are rescaled by D, it becomes D times what it was, up to a
        power of two that is common to all units of the layer.
    outputs
        The largest number of outputs that the layer has for one example: its units times their positions.
    """

    scale: npt.NDArray[np.float64]
    outputs: int


@runtime_checkable
class ResidualDiagonalOracle(CurvatureOracle, Protocol):
    r"""An oracle that tells its layers apart, and differentiates twice in the outputs of each.

    With the cotangents :math:`c_n = \partial \ell_n / \partial z_n` held fixed, :math:`R = H - G` is the Hessian of :math:`E_n \langle c_n, f_\theta(x_n) \rangle`. On the
    parameters of a layer whose outputs they enter affinely, with the derivative :math:`A_n`, its block is :math:`E_n A_n^T K_n A_n`, where :math:`K_n` is the
    second derivative in the outputs of the layer.
    """

    def layer_units(self, parameters: ParameterVector, /) -> Mapping[str, LayerUnits]:
        """Return the output units of the layer that a group belongs to, for every group that belongs to such a layer."""
        ...

    def residual_diagonal(self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits]) -> ParameterVector:
        r"""The diagonal of R on the groups of ``units``, zero elsewhere: :math:`E_n \sum_k (A_n^T e_k) \circ (A_n^T K_n e_k)` over all outputs k of a layer."""
        ...

    def sampled_residual_diagonal(
        self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits], draws: range, seed: int
    ) -> ParameterVector:
        r"""The mean of the draws with these numbers, :math:`E_n (A_n^T r^{-1} \varepsilon_n) \circ (A_n^T K_n r \varepsilon_n)`.

        The signs :math:`\varepsilon_n` are drawn anew for each layer, example, position and output unit; r is the scale of the units. Unbiased, and each
        draw transforms under a rescaling of the units as the diagonal does.
        """
        ...


@runtime_checkable
class ResidualProductOracle(CurvatureOracle, Protocol):
    """An oracle that multiplies with blocks of the residual part of the Hessian, in no more time than products with the Hessian take."""

    def residual_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /, names: frozenset[str]
    ) -> list[ParameterVector]:
        r"""Products :math:`R_{BB} v_B` with the block of :math:`R = H - G` on the named groups B, zero elsewhere; what the vectors have elsewhere does not count.

        R is the Hessian of :math:`E_n \langle c_n, f_\theta(x_n) \rangle`, whose cotangents :math:`c_n = \partial \ell_n / \partial z_n` are held fixed.
        """
        ...


@runtime_checkable
class OneByOneOracle(CurvatureOracle, Protocol):
    """An oracle that says in which groups its squares of derivatives take one example at a time, as where a layer has no rule for those of all examples."""

    def squared_one_by_one(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        """Return, for every such group, the number of examples in a batch: so many passes take the place of one."""
        ...


@runtime_checkable
class NodeCurvatureOracle(CurvatureOracle, Protocol):
    r"""An oracle that knows the second derivative of every operation above some of its layers, and propagates it to them.

    The residual part :math:`R = H - G` has the block :math:`E_n \sum_u J_{nu}^T M_{nu} J_{nu}` on the parameters of a layer: a sum over the nonlinear operations u above it,
    with the derivative :math:`J_{nu}` of the operation's argument in these parameters, and the operation's own second derivative :math:`M_{nu}` along the cotangent of its result.
    """

    def node_counts(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        """Return the number of nonlinear operations above the layer of a group, for every group of a layer with none above it that is unknown."""
        ...

    def propagated_residual_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        r"""The mean of the draws with these numbers, :math:`E_n \sum_u (J_{nu}^T w^a_{nu}) \circ (J_{nu}^T w^b_{nu})`, on the named groups, zero elsewhere.

        The factors are made of signs that are drawn anew for each operation, example and entry, with :math:`E[w^a w^{bT} + w^b w^{aT}] = 2 M_{nu}`. Unbiased.
        """
        ...
