r"""Means over pairs of minibatches, from the inner products of their gradients.

In the ball of radius :math:`\epsilon` around :math:`\theta` the linear function with gradient :math:`g_1` is least at
:math:`-\epsilon\, g_1 / \lVert g_1 \rVert`. How much worse that is for another minibatch than its own minimum is its *regret*,

.. math:: R / \epsilon = \lVert g_2 \rVert - \frac{g_2 \cdot g_1}{\lVert g_1 \rVert} = \lVert g_2 \rVert (1 - \cos(g_1, g_2)) ,

in whatever inner product the ball is round. Where :math:`g_1 = 0` every point is a minimum, and :math:`\theta` is taken.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from invariant_sharpness.estimate import Estimate
from invariant_sharpness.estimators.minibatches import jackknife

Matrix = npt.NDArray[np.float64]


def cosines(gram: Matrix) -> Matrix:
    """Of the angles between the gradients; zero beside a gradient that is zero."""
    norms = np.sqrt(np.diag(gram))
    sizes = np.outer(norms, norms)
    return np.divide(gram, sizes, out=np.zeros_like(gram), where=sizes > 0)


def regrets(gram: Matrix) -> Matrix:
    """Regret of the second minibatch (column) at the minimum of the first (row)."""
    return np.sqrt(np.diag(gram)) * (1 - cosines(gram))


def mean_over_pairs(values: Matrix) -> float:
    """The mean over all pairs of two different ones."""
    count = len(values)
    return float((values.sum() - np.trace(values)) / (count * (count - 1)))


def mean_regret(
    name: str, gram: Matrix, method: str, *, residual: float | None, tolerance: float, note: str
) -> Estimate:
    """The mean of all regrets, with the jackknife's standard error, and the mean of ``1 - cos`` in words."""
    R = regrets(gram)
    angle = f"mean of 1 - cos: {mean_over_pairs(1 - cosines(gram)):.6g}"
    return Estimate(
        name=name,
        value=mean_over_pairs(R),
        method=method,
        standard_error=jackknife(lambda kept: mean_over_pairs(R[np.ix_(kept, kept)]), len(R)),
        degrees_of_freedom=len(R) - 1,
        certificate=residual,
        converged=residual is None or residual <= tolerance,
        notes=tuple(filter(None, (angle, note))),
    )
