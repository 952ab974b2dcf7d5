r"""How fast the Hessian changes: its Lipschitz constant from the diagonal, and in operator norm.

Both look at random corners of the neighbourhood :math:`|u_i| \le N_i = \gamma |\theta_i| + \epsilon` of Wang, Keskar, Xiong and Socher (2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.coordinates import Moved
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal, planned
from invariant_sharpness.estimators.hessian_diagonals import hessian_diagonal
from invariant_sharpness.estimators.lanczos import largest_magnitude_eigenvalue
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, HostArrays, ParameterGroup
from invariant_sharpness.results.estimate import Estimate


def half_widths(oracle: CurvatureOracle, gamma: float, epsilon: float) -> ParameterVector:
    r"""Return the half width :math:`N_i` of the neighbourhood for every parameter.

    Raises
    ------
    ArgumentError
        If ``gamma`` or ``epsilon`` is negative, or both are zero.
    """
    if not (gamma >= 0 and epsilon >= 0 and gamma + epsilon > 0):
        msg = f"gamma={gamma} and epsilon={epsilon}, but neither may be negative, and a neighbourhood has a width"
        raise ArgumentError(msg)
    return abs(oracle.parameters).map(lambda sizes: gamma * sizes + epsilon)


def corner(oracle: CurvatureOracle, widths: ParameterVector, seed: int, index: int) -> ParameterVector:
    """Return corner number ``index`` of the neighbourhood, where every parameter is as far away as it may be."""
    return widths * random.signs(oracle, seed, index)


@checked_numbers
def hessian_lipschitz_of_diagonal(
    oracle: CurvatureOracle,
    *,
    gamma: float = 0.1,
    epsilon: float = 0.1,
    draws: int = 4,
    probes: int = 64,
    budget: float | None = None,
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
    Source: Wang, Keskar, Xiong and Socher (2018), section 4.

    Parameters
    ----------
    oracle
        The oracle with the Hessian.
    gamma, epsilon
        Width of the neighbourhood, relative to each parameter and absolute; the defaults are those of the paper.
    draws
        Number of corners.
    probes
        Number of random vectors of each diagonal that is not exact.
    budget
        What all ``draws`` + 1 diagonals may cost in gradients, in the place of ``probes``, in equal shares.
    seed
        Seed of the corners and of the diagonals.
    diagonal
        The diagonal at the parameters themselves, where it is known already.

    Returns
    -------
    Estimate
        The largest ratio; notes say what the budget bought.

    Raises
    ------
    ArgumentError
        If ``draws`` is less than 1, or the neighbourhood has no width.

    Examples
    --------
    The Hessian of a quadratic loss does not change:

    >>> from invariant_sharpness_numpy import quadratic
    >>> hessian_lipschitz_of_diagonal(quadratic([[2.0, 1.0], [1.0, 3.0]], [[1.0, 1.0]])).value
    0.0
    """
    if draws < 1:
        msg = f"draws={draws}, but a change needs at least one other point"
        raise ArgumentError(msg)
    widths = half_widths(oracle, gamma, epsilon)
    # the diagonal at the parameters
    share = None if budget is None else budget / (draws + 1)
    diagonals = [hessian_diagonal(oracle, probes=probes, budget=share, seed=seed, diagonal=diagonal)]
    first = diagonals[0].arrays
    sizes = oracle.to_numpy(widths)
    largest = 0.0
    for index in range(draws):
        moved = Moved(oracle, oracle.parameters + corner(oracle, widths, seed, index))
        diagonals.append(hessian_diagonal(moved, probes=probes, budget=share, seed=seed))
        second = diagonals[-1].arrays
        for name, size in sizes.items():
            # changes of the entries, over the distance of each
            change = np.abs(second[name] - first[name])
            ratios = np.divide(change, size, out=np.zeros_like(change), where=size > 0)
            largest = max(largest, float(ratios.max(initial=0.0)))
    notes = tuple(dict.fromkeys(note for one in diagonals for note in planned(one)))
    return Estimate("hessian_lipschitz_of_diagonal", largest, f"largest of {draws} corners", notes=notes)


@dataclass(frozen=True, slots=True)
class HessianChange:
    r"""The oracle of :math:`\theta \mapsto (L(\theta + u) - L(\theta)) / \|u\|`, whose Hessian is the change of that of L.

    Parameters
    ----------
    origin
        The oracle of L.
    shift
        The step u between both points.
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
        second, first = self.origin.loss(parameters + self.shift), self.origin.loss(parameters)
        return (second - first) / self.shift.norm()

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        second, first = self.origin.gradient(parameters + self.shift), self.origin.gradient(parameters)
        return (second - first) / self.shift.norm()

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        second = self.origin.hessian_vector_product(parameters + self.shift, vector)
        return (second - self.origin.hessian_vector_product(parameters, vector)) / self.shift.norm()

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        return self.origin.from_numpy(arrays)

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, npt.NDArray[np.float64]]:
        return self.origin.to_numpy(vector)


@renamed(steps="max_iterations")
@checked_numbers
def hessian_lipschitz_of_operator(
    oracle: CurvatureOracle,
    *,
    gamma: float = 0.1,
    epsilon: float = 0.1,
    draws: int = 4,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    seed: int = 0,
) -> Estimate:
    r"""Lipschitz constant of the Hessian in operator norm, :math:`\rho = \max_u \|H(\theta + u) - H(\theta)\| / \|u\|`.

    The largest over some random corners u of the neighbourhood :math:`|u_i| \le \gamma |\theta_i| + \epsilon`: a lower bound of the constant
    that Wang et al. (2018) define. Each norm is an eigenvalue by Lanczos' method; ``relative_gap`` is the largest residual
    relative to its value.

    Not invariant: an operator norm has no law under a rescaling.

    Cost: two Hessian-vector products per step, at most ``max_iterations`` steps per corner.
    Source: Wang, Keskar, Xiong and Socher (2018), section 3.

    Parameters
    ----------
    oracle
        The oracle with the Hessian.
    gamma, epsilon
        Width of the neighbourhood, relative to each parameter and absolute; the defaults are those of the paper.
    draws
        Number of corners.
    tolerance
        The largest residual of an eigenvalue, relative to it.
    max_iterations
        Steps of Lanczos' method for each corner, at most.
    seed
        Seed of the corners and of the first vectors.

    Returns
    -------
    Estimate
        The largest norm, with the relative residual as its ``relative_gap``.

    Raises
    ------
    ArgumentError
        If ``draws`` is less than 1, or the neighbourhood has no width.

    Examples
    --------
    The Hessian of a quadratic loss does not change:

    >>> from invariant_sharpness_numpy import quadratic
    >>> hessian_lipschitz_of_operator(quadratic([[2.0, 1.0], [1.0, 3.0]], [[1.0, 1.0]])).value
    0.0
    """
    if draws < 1:
        msg = f"draws={draws}, but a change needs at least one other point"
        raise ArgumentError(msg)
    widths = half_widths(oracle, gamma, epsilon)
    changes = [
        HessianChange(oracle, corner(oracle, widths, seed, index)) for index in range(draws) if widths.norm() > 0
    ]
    found = [
        largest_magnitude_eigenvalue(c, tolerance=tolerance, max_iterations=max_iterations, seed=seed) for c in changes
    ]
    return Estimate(
        name="hessian_lipschitz_of_operator",
        value=max((abs(f.value) for f in found), default=0.0),
        method=f"Lanczos, largest of {draws} corners",
        certificate=max((f.residual / abs(f.value) for f in found if f.value != 0), default=0.0),
        converged=all(f.converged for f in found),
    )
