"""What lies below and above a minimum over scales in expectation, where its diagonal is known from draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import fsum, sqrt

import numpy as np
import numpy.typing as npt

from invariant_sharpness.estimators.diagonal_results import HessianDiagonal, positive_below
from invariant_sharpness.protocol import HostArrays
from invariant_sharpness.results.estimate import Bracket

HostArray = npt.NDArray[np.float64]

OF_THE_HESSIAN = frozenset({"probes", "XDiag"})
"""Methods whose noise has both signs and is clipped, and is large."""

OF_THE_RESIDUAL = frozenset({"curvature propagation", "layer draws", "residual probes"})
"""Methods whose noise has both signs and is clipped, but is that of the residual part alone."""


def added_brackets(sides: Sequence[Bracket]) -> Bracket:
    """Add what is below, and what is above."""
    return Bracket(fsum(side.lower for side in sides), fsum(side.upper for side in sides))


def sampled_bracket(
    value: float, weights: HostArray, curvature: HostArray, methods: Iterable[str], factor: float
) -> Bracket:
    r"""Return what is below and above a minimum over scales, whose value was computed from a diagonal with noise.

    It is never negative, and with one scale for all of its weights it is :math:`f \|W\| \sqrt{\sum_i h_i^+}`, which is larger, and
    in which clipping makes the mean of every term too large. From draws that are never negative the value itself
    is too small in expectation, since it is concave in h; clipped noise has no such side.
    """
    kinds = set(methods)
    if kinds <= {"exact", "exact (columns)", "exact (units)"}:
        return Bracket(value, value)
    above = factor * float(np.linalg.norm(weights)) * sqrt(float(np.clip(curvature, 0, None).sum()))
    return Bracket(value if kinds == {"sampled outputs"} else 0.0, max(value, above))


def below_the_minimum(
    variances: HostArrays,
    weights: HostArrays,
    diagonal: HessianDiagonal,
    lam: float,
    row_sums: Callable[[HostArrays], HostArray],
) -> float:
    r"""Return :math:`\sum_i 2 \sqrt{T_i^+ B_i}`, the value of a diagonal a that is too small in expectation, with one more scale for each row.

    The variances :math:`\sigma^2` are those of the minimum, :math:`T_i = \sum_j \sigma_{ij}^2 a_{ij}` and :math:`B_i = \sum_j W_{ij}^2 / (2 \lambda \sigma_{ij}^2)`; ``row_sums`` adds the entries
    of each row.
    """
    curvature = {name: s * positive_below(diagonal[name]) for name, s in variances.items()}
    penalty = {
        name: np.divide(weights[name] ** 2, 2 * lam * s, out=np.zeros(s.shape), where=s > 0)
        for name, s in variances.items()
    }
    rows, penalties = row_sums(curvature), row_sums(penalty)
    return float((2 * np.sqrt(np.clip(rows, 0, None) * penalties)).sum())
