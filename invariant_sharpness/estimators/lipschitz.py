r"""The neighbourhood :math:`|u_i| \\le N_i = \\gamma |\theta_i| + \\epsilon` of Wang, Keskar, Xiong and Socher (2018).

How fast the diagonal of the Hessian changes.

How fast the Hessian changes, in operator norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.coordinates import Moved
from invariant_sharpness.estimators.diagonals import HessianDiagonal
from invariant_sharpness.estimators.exact_diagonal import hessian_diagonal
from invariant_sharpness.estimators.lanczos import largest_magnitude_eigenvalue
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, HostArrays, ParameterGroup
from invariant_sharpness.results.estimate import Estimate


def half_widths(oracle: CurvatureOracle, gamma: float, epsilon: float) -> ParameterVector:
    r""":math:`N_i` for every parameter.

    Raises
    ------
    ValueError
        If ``gamma`` or ``epsilon`` is negative, or both are zero.
    """
    if not (gamma >= 0 and epsilon >= 0 and gamma + epsilon > 0):
        msg = f"gamma={gamma} and epsilon={epsilon}, but neither may be negative, and a neighbourhood has a width"
        raise ValueError(msg)
    return abs(oracle.parameters).map(lambda sizes: gamma * sizes + epsilon)


def corner(oracle: CurvatureOracle, widths: ParameterVector, seed: int, index: int) -> ParameterVector:
    """Corner number ``index`` of the neighbourhood, where every parameter is as far away as it may be."""
    return widths * random.signs(oracle, seed, index)


def hessian_lipschitz_of_diagonal(
    oracle: CurvatureOracle,
    *,
    gamma: float = 0.1,
    epsilon: float = 0.1,
    draws: int = 4,
    probes: int = 64,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> Estimate:
    r"""Lipschitz constant of the Hessian from its diagonal, :math:`\rho = \max_i |h_i(\theta + u) - h_i(\theta)| / |u_i|`.

    The largest over some random corners u of the neighbourhood :math:`|u_i| \le \gamma |\theta_i| + \epsilon`. It is neither an
    upper nor a lower bound of the constant: it looks at the diagonal alone, and divides by one entry of u instead of
    its norm. :func:`hessian_lipschitz_of_operator` is the constant of the definition. Corners, because a ratio by
    entries that come close to zero would have no mean.

    Not invariant: under a rescaling by D it becomes :math:`\max_i |h_i(\theta + u) - h_i(\theta)| / (d_i^3 |u_i|)`.
    Where the diagonal is probed, the noise of the probes is in the change.

    Cost: ``draws`` + 1 diagonals of the Hessian.

    Raises
    ------
    ValueError
        If ``draws`` is less than 1, or the neighbourhood has no width.
    """
    if draws < 1:
        msg = f"draws={draws}, but a change needs at least one other point"
        raise ValueError(msg)
    widths = half_widths(oracle, gamma, epsilon)
    here = hessian_diagonal(oracle, probes=probes, seed=seed, known=diagonal).arrays
    sizes = oracle.to_numpy(widths)
    largest = 0.0
    for index in range(draws):
        moved = Moved(oracle, oracle.parameters + corner(oracle, widths, seed, index))
        there = hessian_diagonal(moved, probes=probes, seed=seed).arrays
        for name, size in sizes.items():
            change = np.abs(there[name] - here[name])
            ratios = np.divide(change, size, out=np.zeros_like(change), where=size > 0)
            largest = max(largest, float(ratios.max(initial=0.0)))
    return Estimate("hessian_lipschitz_of_diagonal", largest, f"largest of {draws} corners")


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
