r"""The equations that every rescaling symmetry obeys.

Let :math:`\theta_i \to e^{t a_i} \theta_i` leave the outputs alone for all t. Then, differentiated,

.. math:: \sum_i a_i \, \theta_i \, \frac{\partial f}{\partial \theta_i} = 0

for every input, every output and every parameter point; and the other way round. With one exponent per row and
per column the coefficients are the sums of :math:`\theta \circ J^T c` over rows and columns, for any
cotangent c: one backward pass for one equation.
"""

from __future__ import annotations

from math import fsum

import numpy as np

from invariant_sharpness import probes
from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.progress import track
from invariant_sharpness.protocol import CurvatureOracle, JacobianOracle, Rows, require
from invariant_sharpness.symmetries.finding.equations import Equations
from invariant_sharpness.symmetries.finding.fresh_points import FreshPoints
from invariant_sharpness.symmetries.sides import HostArray
from invariant_sharpness.symmetries.units import Units
from invariant_sharpness.vector import ParameterVector

EXAMPLES = 8
"""Inputs that are looked at: the first of the data."""

_EQUATIONS_PER_POINT = 4
_CHECKED_POINTS = 4
_STREAM = 2**37


def equations(oracle: CurvatureOracle, units: Units, count: int, seed: int, part: int = 0) -> Equations:
    """``count`` equations, each ``part`` at points of its own. Cost: one backward pass of a few examples for each.

    Raises
    ------
    MissingCapabilityError
        If the oracle does not show its outputs.
    NonFiniteError
        If outputs are not differentiable at random parameters of the model's own size.
    """
    able = require(oracle, JacobianOracle, metric="find_symmetries")
    shape = able.outputs(oracle.parameters, EXAMPLES).shape
    width = min(_EQUATIONS_PER_POINT, shape[0] * shape[1])
    points = -(-count // width)
    magnitudes = rounding = oracle.parameters * 0.0
    rows: list[HostArray] = []
    fresh = FreshPoints(oracle, seed)
    for point in track(range(points), "symmetries", points):
        place, first = fresh[part * points + point], (part * points + point) * width
        for number in range(width):
            cotangents = _cotangents(seed, first + number, shape)
            shares = place * able.vector_jacobian_product(place, cotangents)
            whole = _total(shares)
            rows.append(units.sums(oracle.to_numpy(shares)) / whole)
            magnitudes += abs(shares) * (1 / whole)
        if point < _CHECKED_POINTS:
            rounding += _rounding(able, place, _cotangents(seed, first, shape))
    checked = min(points, _CHECKED_POINTS)
    return Equations(
        units,
        np.array(rows),
        oracle.to_numpy(magnitudes * (1 / len(rows))),
        units.sums(oracle.to_numpy(rounding * (1 / checked))),
    )


def _rounding(able: JacobianOracle, place: ParameterVector, cotangents: Rows) -> ParameterVector:
    """What rounding does to an equation: a third of what thrice the cotangents give is the same, rounded otherwise."""
    shares, thrice = (place * able.vector_jacobian_product(place, factor * cotangents) for factor in (1.0, 3.0))
    return abs(shares - thrice * (1 / 3)) * (1 / _total(shares))


def _cotangents(seed: int, number: int, shape: tuple[int, ...]) -> Rows:
    return probes.normal_values(seed, _STREAM, number, shape[0] * shape[1]).reshape(shape)


def _total(shares: ParameterVector) -> float:
    """The sum of all magnitudes, or 1 if there are none."""
    total = fsum(float(shares.xp.sum(array)) for array in abs(shares).arrays.values())
    if not np.isfinite(total):
        msg = (
            "the outputs have NaN or infinite derivatives at random parameters as large as the model's: rescale the model's "
            "parameters to ordinary size, or check its derivatives with `invariant-sharpness doctor`"
        )
        raise NonFiniteError(msg)
    return total or 1.0
