"""The largest rise in a box of a few coordinates or all, by SciPy's L-BFGS-B (Byrd et al. 1995)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import fmin_l_bfgs_b

from invariant_sharpness.estimators.perturbations.largest_rise import Rise

HostArray = npt.NDArray[np.float64]


def boxed_rise(
    rise: Callable[[HostArray], float], slope: Callable[[HostArray], HostArray], reach: HostArray, iterations: int
) -> Rise:
    r"""The rise that L-BFGS-B finds in the box :math:`|y_i| \le \text{reach}_i` from its centre, in so many iterations.

    Its two tolerances are zero: their defaults, meant for losses of the size of one, would end the search at once at a
    minimum, where the gradient is below them everywhere. So it has converged only where the gap, the first-order condition, is zero.

    Cost: at least a loss and a gradient for each iteration. Memory: about 25 float64 vectors on the host.
    """
    if iterations < 1:
        msg = f"iterations={iterations}, but L-BFGS-B needs at least one"
        raise ValueError(msg)
    y, descended, found = fmin_l_bfgs_b(
        lambda y: -rise(y),
        np.zeros_like(reach),
        lambda y: -slope(y),
        bounds=[(-length, length) for length in reach.tolist()],
        factr=0.0,
        pgtol=0.0,
        maxiter=iterations,
    )
    gradient = -np.asarray(found["grad"])
    gap = float(np.sum(np.abs(gradient) * reach - gradient * y))
    return Rise(max(-float(descended), 0.0), gap, converged=gap == 0)
