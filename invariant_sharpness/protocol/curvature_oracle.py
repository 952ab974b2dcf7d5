"""What every oracle is: a mean loss with its gradient and its Hessian-vector product, and what its parameters are."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from invariant_sharpness.parameters.groups import HostArrays, ParameterGroup
from invariant_sharpness.parameters.vector import ParameterVector


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
