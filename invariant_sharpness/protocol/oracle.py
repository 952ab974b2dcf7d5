"""What every oracle is: a mean loss with its gradient and its Hessian-vector product, and what its parameters are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

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
