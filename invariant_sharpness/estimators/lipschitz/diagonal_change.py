"""How fast the diagonal of the Hessian changes."""

from __future__ import annotations

import numpy as np

from invariant_sharpness.coordinates import Moved
from invariant_sharpness.estimate import Estimate
from invariant_sharpness.estimators.diagonals.diagonal import hessian_diagonal
from invariant_sharpness.estimators.diagonals.group_diagonals import HessianDiagonal
from invariant_sharpness.estimators.lipschitz.neighbourhood import corner, half_widths
from invariant_sharpness.protocol import CurvatureOracle


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
