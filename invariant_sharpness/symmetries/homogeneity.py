r"""The equations that every rescaling symmetry obeys.

Let :math:`\theta_i \to e^{t a_i} \theta_i` leave the outputs alone for all t. Then, differentiated,

.. math:: \sum_i a_i \, \theta_i \, \frac{\partial f}{\partial \theta_i} = 0

for every input, every output and every parameter point; and the other way round. With one exponent per row and
per column the coefficients are the sums of :math:`\theta \circ J^T c` over rows and columns, for any
cotangent c: one backward pass for one equation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from invariant_sharpness import probes
from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.precision import unit_of_rounding
from invariant_sharpness.progress import track
from invariant_sharpness.protocol import CurvatureOracle, JacobianOracle, require
from invariant_sharpness.symmetries.sides import HostArray, Numbers
from invariant_sharpness.symmetries.units import Units
from invariant_sharpness.vector import ParameterVector

EXAMPLES = 8
"""Inputs that are looked at: the first of the data."""

_EQUATIONS_PER_POINT = 4
_STREAM = 2**37
_FIRST_POINT = 2**20
_ROUNDINGS = 1e3


@dataclass(frozen=True, slots=True)
class Equations:
    """What each unit contributes to each equation.

    Parameters
    ----------
    coefficients
        Array (equations, units).
    sizes
        What was added up in each unit, in absolute value.
    precision
        Unit of rounding in them.
    """

    coefficients: HostArray
    sizes: HostArray
    precision: float

    @property
    def acting(self) -> npt.NDArray[np.bool_]:
        """Which units act on the outputs at all: on some of the inputs, at some of the points."""
        return self.sizes > _ROUNDINGS * self.precision * self.sizes.max(initial=0.0)

    def joined(self, more: Equations) -> Equations:
        """Both systems in one."""
        coefficients = np.concatenate([self.coefficients, more.coefficients])
        return Equations(coefficients, np.hypot(self.sizes, more.sizes), self.precision)

    def of_blocks(self, blocks: Sequence[Numbers]) -> HostArray:
        """One column for each block, in units of what is added up in it: what cancels within a block shall look small."""
        columns = np.column_stack([self.coefficients[:, block].sum(axis=1) for block in blocks])
        return columns / self.sizes_of_blocks(blocks)

    def sizes_of_blocks(self, blocks: Sequence[Numbers]) -> HostArray:
        """What is added up in each block, in absolute value."""
        return np.array([self.sizes[block].sum() for block in blocks])


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
    rows: list[HostArray] = []
    sizes = np.zeros(len(units))
    points = -(-count // _EQUATIONS_PER_POINT)
    for point in track(range(part * points, (part + 1) * points), "symmetries", points):
        place = fresh_point(oracle, seed, point)
        for number in range(point * _EQUATIONS_PER_POINT, (point + 1) * _EQUATIONS_PER_POINT):
            cotangents = probes.normal_values(seed, _STREAM, number, shape[0] * shape[1]).reshape(shape)
            shares = oracle.to_numpy(place * able.vector_jacobian_product(place, cotangents))
            size = units.sums({name: np.abs(values) for name, values in shares.items()})
            whole = _finite(float(np.linalg.norm(size))) or 1.0
            rows.append(units.sums(shares) / whole)
            sizes += (size / whole) ** 2
    return Equations(np.array(rows), np.sqrt(sizes), unit_of_rounding(oracle))


def fresh_point(oracle: CurvatureOracle, seed: int, index: int) -> ParameterVector:
    """Random parameters, each group as large as it is in the model.

    At a single point there are accidental solutions: units that are always active, or dead. A group of zeros gets the size of
    a typical other one, since a symmetry must hold for all parameters, also for biases that have not been trained.
    """
    arrays = oracle.to_numpy(oracle.parameters)
    sizes = {name: float(np.sqrt(np.mean(a**2))) if a.size else 0.0 for name, a in arrays.items()}
    usual = float(np.median([size for size in sizes.values() if size > 0] or [1.0]))
    draws = oracle.to_numpy(probes.uniform(oracle, seed, _FIRST_POINT + index))
    return oracle.from_numpy({name: 3**0.5 * (sizes[name] or usual) * draws[name] for name in arrays})


def _finite(size: float) -> float:
    if not np.isfinite(size):
        msg = (
            "the outputs have NaN or infinite derivatives at random parameters as large as the model's: rescale the model's "
            "parameters to ordinary size, or check its derivatives with `invariant-sharpness doctor`"
        )
        raise NonFiniteError(msg)
    return size
