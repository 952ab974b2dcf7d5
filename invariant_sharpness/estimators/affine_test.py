r"""The certificate that the diagonal of the Hessian is that of the Gauss-Newton matrix.

The Hessian of a mean loss is :math:`H = G + \sum_{nk} \frac{\partial \ell_n}{\partial z_{nk}} \nabla^2 z_{nk}`. If the outputs are (locally) an affine
function of a parameter group, because every path crosses it at most once and all that follows is piecewise
linear, then :math:`\nabla^2_{gg} z_{nk} = 0` and the two blocks are equal, for *any* loss.

This is not assumed but tested. For random cotangents c, :math:`\phi = \sum_{nk} c_{nk} z_{nk}` and a random direction u on the
group, :math:`(\nabla^2_{gg} \phi) u` vanishes with probability one only if all :math:`\nabla^2_{gg} z_{nk}` do. Comparing ``H u`` with ``G u`` for the
loss itself is weaker: there the second term is weighted with the residuals, which are small where the
network already fits the few examples of the test, and not small elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import Array
from invariant_sharpness.protocol import CurvatureOracle, GaussNewtonDiagonalOracle

_ROUNDING = 1000.0
"""A defect up to this many units of rounding counts as zero; real ones are of order one."""


def curvature_defects(oracle: GaussNewtonDiagonalOracle, seed: int = 0) -> dict[str, float]:
    r"""The relative defect of each group, :math:`\|s \circ (\nabla^2_{gg}\phi) u\| / \|s \circ \nabla_g \phi\|`.

    The direction is ``u = s * r``, with ``s = abs(theta)`` and ``r`` uniform on [-1, 1): the defect does not
    change when the network is rescaled, and so neither does the verdict. Cost: one gradient and one more
    backward pass per group, on a few examples.
    """
    scale = magnitudes(oracle)
    direction = scale * prng.uniform(oracle, seed, 0)
    first, second = oracle.output_curvature(oracle.parameters, direction, seed)
    bends, slopes = scale * second, scale * first
    return {g.name: _ratio(_norm(oracle, bends[g.name]), _norm(oracle, slopes[g.name])) for g in oracle.groups}


def exact_groups(oracle: CurvatureOracle, defects: Mapping[str, float]) -> frozenset[str]:
    """The groups whose defect is rounding in their own precision."""
    return frozenset(
        name for name, defect in defects.items() if defect <= _ROUNDING * _precision(oracle, oracle.parameters[name])
    )


def _norm(oracle: GaussNewtonDiagonalOracle, values: Array) -> float:
    return float(oracle.xp.sum(values * values)) ** 0.5


def _ratio(bend: float, slope: float) -> float:
    if bend == 0:
        return 0.0
    return bend / slope if slope > 0 else np.inf


def _precision(oracle: CurvatureOracle, values: Array) -> float:
    return float(oracle.xp.finfo(values.dtype).eps)
