"""The same loss, measured at another point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from invariant_sharpness.coordinates.forwarding import Forwarding
from invariant_sharpness.parameters.fitting import require_fitting
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, HessianOperator, HessianOperatorOracle, SubsetOracle


@dataclass(frozen=True, slots=True)
class Moved(Forwarding):
    r"""The same loss :math:`L`, whose parameters "are" at another point; the model itself stays where it is.

    Parameters
    ----------
    base
        The oracle of the model.
    parameters
        The point where metrics shall measure it, such as a rescaled copy of ``base.parameters``.

    Raises
    ------
    ModelError
        If the parameters are not those of the same network: names the first group that differs.

    Notes
    -----
    Cost: none of its own. It can do what the oracle beneath it can.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), [[3.0, 4.0]])
    >>> moved = Moved(oracle, 2 * oracle.parameters)
    >>> moved.loss(moved.parameters) / oracle.loss(oracle.parameters)
    4.0
    """

    base: CurvatureOracle
    parameters: ParameterVector

    def __post_init__(self) -> None:
        require_fitting(self.parameters, self.base.groups, "the parameters")

    def hessian_operator(self, parameters: ParameterVector, /) -> HessianOperator:
        return self._able(HessianOperatorOracle).hessian_operator(parameters)

    def subset(self, examples: Sequence[int], /) -> Moved:
        return Moved(self._able(SubsetOracle).subset(examples), self.parameters)
