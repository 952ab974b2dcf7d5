"""The one interface between the metrics and the frameworks that differentiate.

A :class:`CurvatureOracle` is a mean loss as a function of parameters, with its gradient and
its Hessian-vector product. Everything beyond is an optional capability: a small protocol that an
oracle may also satisfy. Oracles inherit from nothing here; they have the methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import MissingCapabilityError
from invariant_sharpness.vector import ParameterVector

Role = Literal["matrix", "convolution", "embedding", "bias", "norm", "other"]
HostArrays = Mapping[str, npt.NDArray[np.float64]]
Rows = npt.NDArray[np.float64]
"""One row for each example, on the host."""


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """A named parameter, and which of its axes count outputs, inputs and kernel positions.

    Frameworks store the same layer differently: a dense kernel is ``(out, in)`` in PyTorch and
    ``(in, out)`` in Keras and JAX. The axes say which is which, so that a metric that works row
    by row means the same everywhere.

    Parameters
    ----------
    name
        The framework's name of the parameter, such as ``"conv1.weight"``.
    shape
        Its shape in the framework's own layout.
    role
        What it does. ``"matrix"``, ``"convolution"`` and ``"embedding"`` are weights: they have rows
        and columns. ``"norm"`` is the gain of a normalization layer, ``"bias"`` any shift.
    output_axes, input_axes
        The axes that count output units and input units. All others are kernel positions.
    channel_groups
        Number of groups of a grouped convolution (the number of channels of a depthwise one).
    divided_axes
        The side whose axes count channels *within* a channel group. A convolution kernel has
        ``(outputs, inputs per group)``; a transposed one, and Keras' depthwise kernel, have
        ``(inputs, outputs per group)``.
    owner
        For a bias: the name of the weight (or norm gain) to whose outputs it is added.
    """

    name: str
    shape: tuple[int, ...]
    role: Role = "other"
    output_axes: tuple[int, ...] = ()
    input_axes: tuple[int, ...] = ()
    channel_groups: int = 1
    divided_axes: Literal["input", "output"] = "input"
    owner: str | None = None

    @property
    def size(self) -> int:
        """Number of parameters in the group."""
        return prod(self.shape)

    @property
    def kernel_axes(self) -> tuple[int, ...]:
        """The axes that count neither outputs nor inputs."""
        used = {*self.output_axes, *self.input_axes}
        return tuple(axis for axis in range(len(self.shape)) if axis not in used)

    @property
    def is_weight(self) -> bool:
        """Whether the group has rows (output units) and columns (input units)."""
        return self.role in ("matrix", "convolution", "embedding")


@runtime_checkable
class CurvatureOracle(Protocol):
    """A mean loss over a data set, as a function of the parameters, with two derivatives.

    Every method is a pure function of its arguments: it changes neither the model nor any random
    state, and equal arguments give equal results.
    """

    @property
    def xp(self) -> Any:
        """Array API namespace of the oracle's vectors."""
        ...

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        """The parameters that are measured."""
        ...

    @property
    def parameters(self) -> ParameterVector:
        """The point where the model is now."""
        ...

    def loss(self, parameters: ParameterVector, /) -> float:
        r"""Mean loss :math:`L(\theta)`."""
        ...

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        r"""Gradient :math:`\nabla L(\theta)`."""
        ...

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        r"""Product :math:`\nabla^2 L(\theta) v`, without forming the Hessian."""
        ...

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        """Host values on the oracle's device, in the parameters' own dtypes."""
        ...

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, npt.NDArray[np.float64]]:
        """A float64 copy on the host."""
        ...


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
class ModelPrecisionOracle(CurvatureOracle, Protocol):
    """An oracle that says with how many digits its model computes: in half precision, fewer than its vectors hold."""

    @property
    def model_rounding(self) -> float:
        """The unit of rounding of the least precise parameter in the model."""
        ...


@runtime_checkable
class CoordinateOracle(CurvatureOracle, Protocol):
    """An oracle in other coordinates, which can do what the oracle beneath it can."""

    @property
    def base(self) -> CurvatureOracle:
        """The oracle in the model's own coordinates."""
        ...


Capability = TypeVar("Capability", bound=CurvatureOracle)


def supports(oracle: CurvatureOracle, capability: type[Any]) -> bool:
    """Whether ``oracle`` has the methods of ``capability``."""
    if isinstance(oracle, CoordinateOracle):
        return supports(oracle.base, capability)
    return isinstance(oracle, capability)


def require(oracle: CurvatureOracle, capability: type[Capability], *, metric: str) -> Capability:
    """Return ``oracle`` if it has ``capability``; otherwise raise, saying what is missing.

    Raises
    ------
    MissingCapabilityError
        Names the missing methods and what to do.
    """
    if supports(oracle, capability):
        return cast(Capability, oracle)
    missing = sorted(n for n in dir(capability) if not n.startswith("_") and not hasattr(CurvatureOracle, n))
    msg = (
        f"{metric} needs {', '.join(missing)}, which {type(_innermost(oracle)).__name__} does not have. "
        f"Give the oracle the methods of {capability.__name__}, or take a metric that needs only "
        f"Hessian-vector products, such as hessian_spectral_norm."
    )
    raise MissingCapabilityError(msg)


def _innermost(oracle: CurvatureOracle) -> CurvatureOracle:
    return _innermost(oracle.base) if isinstance(oracle, CoordinateOracle) else oracle
