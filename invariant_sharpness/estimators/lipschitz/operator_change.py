"""How fast the Hessian changes, in operator norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.estimate import Estimate
from invariant_sharpness.estimators.lipschitz.neighbourhood import corner, half_widths
from invariant_sharpness.estimators.spectra.lanczos import largest_magnitude_eigenvalue
from invariant_sharpness.protocol import CurvatureOracle, HostArrays, ParameterGroup
from invariant_sharpness.vector import ParameterVector


@dataclass(frozen=True, slots=True)
class Change:
    r"""The oracle of :math:`\theta \mapsto (L(\theta + u) - L(\theta)) / \|u\|`, whose Hessian is the change of that of L.

    Parameters
    ----------
    origin
        The oracle of L.
    shift
        u.
    """

    origin: CurvatureOracle
    shift: ParameterVector

    @property
    def xp(self) -> Any:
        return self.origin.xp

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        return self.origin.groups

    @property
    def parameters(self) -> ParameterVector:
        return self.origin.parameters

    def loss(self, parameters: ParameterVector, /) -> float:
        there, here = self.origin.loss(parameters + self.shift), self.origin.loss(parameters)
        return (there - here) / self.shift.norm()

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        there, here = self.origin.gradient(parameters + self.shift), self.origin.gradient(parameters)
        return (there - here) / self.shift.norm()

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        there = self.origin.hessian_vector_product(parameters + self.shift, vector)
        return (there - self.origin.hessian_vector_product(parameters, vector)) / self.shift.norm()

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        return self.origin.from_numpy(arrays)

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, npt.NDArray[np.float64]]:
        return self.origin.to_numpy(vector)


def hessian_lipschitz_of_operator(
    oracle: CurvatureOracle,
    *,
    gamma: float = 0.1,
    epsilon: float = 0.1,
    draws: int = 4,
    tolerance: float = 1e-3,
    steps: int = 100,
    seed: int = 0,
) -> Estimate:
    r"""Lipschitz constant of the Hessian in operator norm, :math:`\rho = \max_u \|H(\theta + u) - H(\theta)\| / \|u\|`.

    The largest over some random corners u of the neighbourhood :math:`|u_i| \le \gamma |\theta_i| + \epsilon`: a lower bound of the constant
    that Wang et al. (2018) define. Each norm is an eigenvalue by Lanczos' method; ``certificate`` is the largest residual
    relative to its value.

    Not invariant: an operator norm has no law under a rescaling.

    Cost: two Hessian-vector products per step, at most ``steps`` per corner.

    Raises
    ------
    ValueError
        If ``draws`` is less than 1, or the neighbourhood has no width.
    """
    if draws < 1:
        msg = f"draws={draws}, but a change needs at least one other point"
        raise ValueError(msg)
    widths = half_widths(oracle, gamma, epsilon)
    changes = [Change(oracle, corner(oracle, widths, seed, index)) for index in range(draws) if widths.norm() > 0]
    found = [largest_magnitude_eigenvalue(c, tolerance=tolerance, steps=steps, seed=seed) for c in changes]
    return Estimate(
        name="hessian_lipschitz_of_operator",
        value=max((abs(f.value) for f in found), default=0.0),
        method=f"Lanczos, largest of {draws} corners",
        certificate=max((f.residual / abs(f.value) for f in found if f.value != 0), default=0.0),
        converged=all(f.converged for f in found),
    )
