r"""The affine test says in which parameter groups the diagonal of the Hessian is that of the Gauss-Newton matrix.

The Hessian of a mean loss is :math:`H = G + \sum_{nk} \frac{\partial \ell_n}{\partial z_{nk}} \nabla^2 z_{nk}`. If the outputs are (locally) an affine
function of a parameter group, because every path crosses it at most once and all that follows is piecewise
linear, then :math:`\nabla^2_{gg} z_{nk} = 0` and the two blocks are equal, for *any* loss.

This is not assumed but tested, in two steps.

1. *Before the diagonal*, on a few examples, spread evenly over the data (:func:`curvature_defects`): for random cotangents c,
   :math:`\phi = \sum_{nk} c_{nk} z_{nk}`, and a random direction u on the group, :math:`(\nabla^2_{gg} \phi) u` vanishes with probability one only if
   all :math:`\nabla^2_{gg} z_{nk}` do. Comparing ``H u`` with ``G u`` for the loss itself is weaker: there the second term is weighted with
   the residuals, which are small where the network already fits the few examples of the test, and not small elsewhere.
2. *After it*, against all data (:mod:`~invariant_sharpness.estimators.affine_confirmation`): what of the diagonal lies in entries that no
   example of the first step reaches, and what curvature below the threshold could add to it.

A group that no tested example reaches has the relative curvature 0 / 0, which is NaN here: it passes neither as affine nor as curved.

:func:`affine_test` measures and :func:`exact_groups` decides, in the end on what the second step has found: in ``exact_diagonal`` of
:mod:`~invariant_sharpness.estimators.hessian_diagonals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import Array, ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, GaussNewtonDiagonalOracle

_ROUNDING = 1000.0
"""A relative curvature up to this many machine epsilons counts as zero; real ones are of order one."""


@dataclass(frozen=True, slots=True)
class AffineTest:
    r"""What the affine test has measured.

    Parameters
    ----------
    defects
        The relative curvature of the outputs in each group; NaN where no tested example reaches the group.
    slopes
        The derivative of the random combination of the outputs, in units of the parameters: an entry in which it is zero is
        reached by none of the tested examples.
    scale
        The units, :math:`s = |\theta|`.
    direction
        The direction :math:`u = s \circ r` along which the outputs were differentiated twice.
    """

    defects: Mapping[str, float]
    slopes: ParameterVector
    scale: ParameterVector
    direction: ParameterVector


def affine_test(oracle: GaussNewtonDiagonalOracle, seed: int = 0) -> AffineTest:
    """Measure what :func:`curvature_defects` returns, and in which entries.

    Parameters
    ----------
    oracle
        An oracle that differentiates random combinations of its outputs.
    seed
        Seed of the cotangents and of the direction.

    Returns
    -------
    AffineTest
        The relative curvatures, and the slopes of the entries.
    """
    scale = magnitudes(oracle)
    direction = scale * prng.uniform(oracle, seed, 0)
    slopes, curved = (scale * derivative for derivative in oracle.output_curvature(oracle.parameters, direction, seed))
    return AffineTest(relative_curvatures(oracle, slopes, curved), slopes, scale, direction)


def curvature_defects(oracle: GaussNewtonDiagonalOracle, seed: int = 0) -> dict[str, float]:
    r"""Measure the relative curvature of the outputs in each group, :math:`\|s \circ (\nabla^2_{gg}\phi) u\| / \|s \circ \nabla_g \phi\|`.

    The direction is ``u = s * r``, with ``s = abs(theta)`` and ``r`` uniform on [-1, 1): the relative curvature does not
    change when the network is rescaled, and so neither does the verdict. Cost: one gradient and one more
    backward pass per group, on a few examples, spread evenly over the data.

    Parameters
    ----------
    oracle
        An oracle that differentiates random combinations of its outputs.
    seed
        Seed of the cotangents and of the direction.

    Returns
    -------
    dict of str to float
        Zero up to rounding for a group in which the outputs are affine, and of order one for others; NaN for a group that no
        tested example reaches.

    Examples
    --------
    The outputs of a linear layer are affine in its weight:

    >>> import numpy as np
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> oracle = NetworkOracle(ReluNetwork((np.eye(2),)), np.array([[1.0, 1.0]]), np.array([0]))
    >>> curvature_defects(oracle)
    {'layers.0.weight': 0.0}
    """
    return dict(affine_test(oracle, seed).defects)


def exact_groups(oracle: CurvatureOracle, defects: Mapping[str, float]) -> frozenset[str]:
    """Return the groups that pass the affine test: their relative curvature is rounding in their own precision.

    Parameters
    ----------
    oracle
        The oracle whose groups they are.
    defects
        The relative curvature of each group, from :func:`curvature_defects`.

    Returns
    -------
    frozenset of str
        Names of groups. Their diagonal blocks of the Hessian and of the Gauss-Newton matrix are equal.
    """
    largest = largest_defects(oracle)
    return frozenset(name for name, defect in defects.items() if defect <= largest[name])


def largest_defects(oracle: CurvatureOracle) -> dict[str, float]:
    """Return the relative curvature up to which each group counts as affine, by its own precision."""
    return {
        name: _ROUNDING * float(oracle.xp.finfo(array.dtype).eps) for name, array in oracle.parameters.arrays.items()
    }


def relative_curvatures(oracle: CurvatureOracle, first: ParameterVector, second: ParameterVector) -> dict[str, float]:
    """Return the norm of the second derivative over that of the first, group by group, both in units of the parameters."""
    return {
        group.name: _ratio(_norm(oracle, second[group.name]), _norm(oracle, first[group.name]))
        for group in oracle.groups
    }


def _norm(oracle: CurvatureOracle, values: Array) -> float:
    return float(oracle.xp.sum(values * values)) ** 0.5


def _ratio(second: float, first: float) -> float:
    if first > 0:
        return second / first
    return np.nan if second == 0 else np.inf
