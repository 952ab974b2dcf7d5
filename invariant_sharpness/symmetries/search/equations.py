r"""The linear equations that every rescaling symmetry obeys, gathered at random parameter points.

Let :math:`\theta_i \to e^{t a_i} \theta_i` leave the outputs as they are for all t. Then, differentiated,

.. math:: \sum_i a_i \, \theta_i \, \frac{\partial f}{\partial \theta_i} = 0

for every input, every output and every parameter point; and the other way round. With one exponent per row and
per column the coefficients are the sums of :math:`\theta \circ J^T c` over rows and columns, for any
cotangent c: one backward pass for one equation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng
from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import Stream
from invariant_sharpness.protocol import JacobianOracle, Rows
from invariant_sharpness.runtime.progress import track
from invariant_sharpness.symmetries.scaling_variables import HostArray, Numbers, ScalingVariables
from invariant_sharpness.symmetries.search.overlaps import AxisPair, VariableGroup, connected_variables
from invariant_sharpness.symmetries.search.points import EXAMPLES, RandomPoints

_ROUNDINGS = 30
_EQUATIONS_PER_POINT = 4
_CHECKED_POINTS = 4


@dataclass(frozen=True)
class Equations:
    """The system of equations: what each variable contributes to each of them.

    Parameters
    ----------
    variables
        The scaling variables: the unknowns.
    coefficients
        The matrix (equations, variables).
    magnitudes
        The mean absolute contribution of each entry of each parameter.
    rounding
        The mean rounding error in the coefficient of each variable.
    points
        How many random points the equations are from.
    """

    variables: ScalingVariables
    coefficients: HostArray
    magnitudes: Mapping[str, HostArray]
    rounding: HostArray
    points: int

    @cached_property
    def sizes(self) -> HostArray:
        """The mean sum of absolute contributions of each variable."""
        return self.variables.sums(self.magnitudes)

    @cached_property
    def acting(self) -> npt.NDArray[np.bool_]:
        """Which variables act on the outputs: on some of the inputs, at some of the points, and by more than rounding."""
        return self.sizes > _ROUNDINGS * self.rounding

    @cached_property
    def relative_rounding(self) -> float:
        """The median rounding error of the variables that act, relative to their sizes."""
        return (
            float(np.median((self.rounding / np.where(self.acting, self.sizes, 1.0))[self.acting]))
            if self.acting.any()
            else 0.0
        )

    @cached_property
    def components(self) -> Mapping[AxisPair, tuple[Numbers, Numbers]]:
        """The connected component of each variable in the graph of overlaps of each two axes of a parameter."""
        return connected_variables(self.variables, self.magnitudes)

    @cached_property
    def _by_variable(self) -> HostArray:
        return np.ascontiguousarray(self.coefficients.T)

    def at_least(self, count: int, points: RandomPoints) -> Equations:
        """Return a system of at least ``count`` equations, these among them. Cost: one backward pass for each that is missing."""
        missing = count - len(self.coefficients)
        return self._joined(gather_equations(points, self.variables, missing, self.points)) if missing > 0 else self

    def _joined(self, more: Equations) -> Equations:
        part = len(more.coefficients) / (len(self.coefficients) + len(more.coefficients))
        return Equations(
            self.variables,
            np.concatenate([self.coefficients, more.coefficients]),
            {name: (1 - part) * values + part * more.magnitudes[name] for name, values in self.magnitudes.items()},
            (1 - part) * self.rounding + part * more.rounding,
            self.points + more.points,
        )

    def scaled_columns(self, groups: Sequence[VariableGroup]) -> HostArray:
        """Sum the columns of each group and divide by the sum of their magnitudes, so that a group whose entries cancel has a small column."""
        if not groups:
            return np.zeros((len(self.coefficients), 0))
        starts = np.cumsum([0, *map(len, groups[:-1])])
        sums: HostArray = np.add.reduceat(self._by_variable[np.concatenate(groups)], starts, axis=0)
        return sums.T / self.group_sizes(groups)

    def group_sizes(self, groups: Sequence[VariableGroup]) -> HostArray:
        """Sum the sizes of the variables of each group."""
        return np.array([self.sizes[group].sum() for group in groups])


def gather_equations(points: RandomPoints, variables: ScalingVariables, count: int, first: int = 0) -> Equations:
    """Gather ``count`` equations, at points of their own from the one with number ``first``. Cost: one backward pass of a few examples for each.

    Raises
    ------
    NonFiniteError
        If outputs are not differentiable at random parameters of the model's own size.
    """
    oracle, seed = points.oracle, points.seed
    shape = oracle.outputs(oracle.parameters, EXAMPLES).shape
    width = min(_EQUATIONS_PER_POINT, shape[0] * shape[1])
    num_points = -(-count // width)
    magnitudes = rounding = oracle.parameters * 0.0
    rows: list[HostArray] = []
    for number in track(range(num_points), "symmetries", num_points):
        point = points[first + number]
        for index in range(width):
            cotangents = _cotangents(seed, (first + number) * width + index, shape)
            contributions = point * oracle.vector_jacobian_product(point, cotangents)
            sizes = abs(contributions)
            total = _total(sizes)
            rows.append(variables.sums(oracle.to_numpy(contributions)) / total)
            magnitudes += sizes * (1 / total)
        if number < _CHECKED_POINTS:
            rounding += _rounding(oracle, point, _cotangents(seed, (first + number) * width, shape))
    checked = min(num_points, _CHECKED_POINTS)
    return Equations(
        variables,
        np.array(rows),
        oracle.to_numpy(magnitudes * (1 / len(rows))),
        variables.sums(oracle.to_numpy(rounding * (1 / checked))),
        num_points,
    )


def _rounding(oracle: JacobianOracle, point: ParameterVector, cotangents: Rows) -> ParameterVector:
    """Measure the rounding of an equation: a third of what thrice the cotangents give is the same, rounded otherwise."""
    contributions, thrice = (
        point * oracle.vector_jacobian_product(point, factor * cotangents) for factor in (1.0, 3.0)
    )
    return abs(contributions - thrice * (1 / 3)) * (1 / _total(abs(contributions)))


def _cotangents(seed: int, number: int, shape: tuple[int, ...]) -> Rows:
    return prng.normal_values(seed, Stream.SYMMETRY_EQUATIONS, number, shape[0] * shape[1]).reshape(shape)


def _total(sizes: ParameterVector) -> float:
    """Sum all entries; 1 if they are zero."""
    total = fsum(float(sizes.xp.sum(array)) for array in sizes.arrays.values())
    if not np.isfinite(total):
        msg = (
            "the outputs have NaN or infinite derivatives at random parameters as large as the model's: rescale the model's "
            "parameters to ordinary size, or check its derivatives with `invariant-sharpness doctor`"
        )
        raise NonFiniteError(msg)
    return total or 1.0
