r"""The solver of the matrix-normal extension of (17), in which the units of a head share a full matrix of scales.

.. math::
    S^* = \inf_{A, B} \sum_{ia} A_i \langle H_{ia}, B_a \rangle + A_i^{-1} \, w_{ia}^T B_a^{-1} w_{ia} , \qquad A_i > 0, \; B_a \succ 0,

over rows i, which count the units of the other side of a weight, and heads a. :math:`H_{ia}` is the positive semidefinite curvature of row i within
head a, and :math:`w_{ia}` its weights over :math:`\sqrt{2\lambda}`. The problem is convex along geodesics. It is split into the parts in which the
infimum is attained. In each, the best B for a given A is known in closed form (``objective``), which leaves a convex function of
:math:`\ln A`: it is minimized by alternating sweeps and Newton's method, which brings a lower bound (``descent``).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

import numpy as np

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.parameters.matrices import HostArray
from invariant_sharpness.solvers.heads.descent import minimize
from invariant_sharpness.solvers.heads.objective import attained_parts

__all__ = ["HeadSolution", "solve_heads"]


@dataclass(frozen=True, slots=True)
class HeadSolution:
    """The infimum for one weight, between a value and a lower bound.

    Parameters
    ----------
    value, lower_bound
        The objective at the solution, and a bound below the infimum that is proven, up to rounding.
    attained
        Whether a minimizer exists. If not, some scales run off to zero or infinity, at no cost.
    steps
        The number of sweeps and Newton steps, over all parts.
    """

    value: float
    lower_bound: float
    attained: bool
    steps: int

    @property
    def gap(self) -> float:
        """The relative gap, ``(value - lower_bound) / value``: a proven bound of the relative error."""
        return (self.value - self.lower_bound) / self.value if self.value > 0 else 0.0


def solve_heads(
    curvatures: HostArray, weights: HostArray, *, tolerance: float = 1e-12, rounding: float = 2.0**-52
) -> HeadSolution:
    r"""Solve the problem for one weight.

    Parameters
    ----------
    curvatures
        The matrices H, symmetric and positive semidefinite, of shape ``(heads, rows, width, width)``.
    weights
        The vectors w, of shape ``(heads, rows, width)``.
    tolerance
        The relative gap at which to stop; the default is far above rounding, and below every error of an estimated curvature.
    rounding
        The machine epsilon of the curvatures: what is smaller beside the largest counts as zero.

    Returns
    -------
    HeadSolution
        The value with its lower bound. Cost: no gradient; a Newton step takes two products of matrices for each row of each head.

    Raises
    ------
    ArgumentError
        If the shapes do not fit, or a number is not finite, or a curvature is negative beyond rounding.

    Examples
    --------
    One row and one head of width 1: :math:`t H + w^2 / t` is least at :math:`t = |w| / \sqrt H`, where it is :math:`2 |w| \sqrt H`.

    >>> import numpy as np
    >>> round(solve_heads(np.array([[[[4.0]]]]), np.array([[[3.0]]])).value, 12)
    12.0
    """
    _check(curvatures, weights, rounding)
    parts, attained = attained_parts(curvatures, weights, rounding)
    minima = [minimize(part, tolerance) for part in parts]
    return HeadSolution(
        value=fsum(minimum.value for minimum in minima),
        lower_bound=fsum(minimum.value - minimum.loss for minimum in minima),
        attained=attained,
        steps=sum(minimum.steps for minimum in minima),
    )


def _check(curvatures: HostArray, weights: HostArray, rounding: float) -> None:
    if weights.ndim != 3 or curvatures.shape != (*weights.shape, weights.shape[-1]):
        msg = (
            f"curvatures have shape {curvatures.shape} and weights {weights.shape}, but they are "
            f"(heads, rows, width, width) and (heads, rows, width)"
        )
        raise ArgumentError(msg)
    if not (np.isfinite(curvatures).all() and np.isfinite(weights).all()):
        msg = "curvatures and weights have to be finite"
        raise ArgumentError(msg)
    # Least eigenvalue in units in which the diagonal is one.
    diagonal = np.einsum("aikk->aik", curvatures)
    units = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    comparable = curvatures / (units[..., :, None] * units[..., None, :])
    if np.linalg.eigvalsh(comparable).min(initial=0.0) < -np.sqrt(rounding):
        msg = (
            "a curvature is negative, so there is no minimum: the Gauss-Newton matrix is that of a loss that is not convex in "
            "the outputs; take cross-entropy or squared error"
        )
        raise ArgumentError(msg)
