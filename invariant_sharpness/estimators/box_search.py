"""The largest increase of the loss in a box of a few coordinates or all, by SciPy's L-BFGS-B (Byrd et al. 1995).

The solver knows one long array on the host, in the place of a vector with one array for each group.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import fmin_l_bfgs_b

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.conditional_gradient import LossIncrease
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle

HostArray = npt.NDArray[np.float64]


def flattened(oracle: CurvatureOracle, vector: ParameterVector) -> HostArray:
    """Return all entries on the host, group after group."""
    arrays = oracle.to_numpy(vector)
    return np.concatenate([arrays[group.name].ravel() for group in oracle.groups])


def unflattened(oracle: CurvatureOracle, values: HostArray) -> ParameterVector:
    """Return the vector with these entries."""
    ends = np.cumsum([group.size for group in oracle.groups])[:-1]
    parts = zip(oracle.groups, np.split(values, ends), strict=True)
    return oracle.from_numpy({group.name: part.reshape(group.shape) for group, part in parts})


def increase_in_box(
    increase: Callable[[HostArray], float],
    slope: Callable[[HostArray], HostArray],
    reach: HostArray,
    max_iterations: int,
) -> LossIncrease:
    r"""Search the box :math:`|y_i| \le \text{reach}_i` from its centre for the largest increase.

    Its two tolerances are zero: their defaults, meant for losses of the size of one, would end the search at once at a
    minimum, where the gradient is below them everywhere. So it has converged only where the gap, the first-order condition, is zero.

    Cost: at least a loss and a gradient for each iteration. Memory: about 25 float64 vectors on the host.
    """
    if max_iterations < 1:
        msg = f"max_iterations={max_iterations}, but L-BFGS-B needs at least one"
        raise ArgumentError(msg)
    y, descended, found = fmin_l_bfgs_b(
        lambda y: -increase(y),
        np.zeros_like(reach),
        lambda y: -slope(y),
        bounds=[(-length, length) for length in reach.tolist()],
        factr=0.0,
        pgtol=0.0,
        maxiter=max_iterations,
    )
    gradient = -np.asarray(found["grad"])
    gap = float(np.sum(np.abs(gradient) * reach - gradient * y))
    return LossIncrease(max(-float(descended), 0.0), gap, converged=gap == 0)
