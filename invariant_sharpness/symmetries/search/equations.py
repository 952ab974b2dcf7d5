r"""Random parameters at which the equations of a symmetry are gathered.

The equations of a network, put together at many points.

The equations that every rescaling symmetry obeys.

Let :math:`\theta_i \to e^{t a_i} \theta_i` leave the outputs alone for all t. Then, differentiated,

.. math:: \\sum_i a_i \\, \theta_i \\, \frac{\\partial f}{\\partial \theta_i} = 0

for every input, every output and every parameter point; and the other way round. With one exponent per row and
per column the coefficients are the sums of :math:`\theta \\circ J^T c` over rows and columns, for any
cotangent c: one backward pass for one equation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from invariant_sharpness import prng
from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, JacobianOracle, Rows, require
from invariant_sharpness.runtime.progress import track
from invariant_sharpness.symmetries.units import HostArray, Numbers, Units

_FIRST_POINT = 2**20
_LEAST = 0.1


class FreshPoints:
    """Random parameters, each group as large as it is in the model, but none much smaller than its weights are.

    At a single point there are accidental solutions: units that are always active, or dead. A symmetry must hold for all parameters, and what
    has hardly been trained, as biases or the gains of a residual branch, could not be told from rounding at its own size.

    Parameters
    ----------
    oracle
        Of the network.
    seed
        Of the random numbers.
    """

    def __init__(self, oracle: CurvatureOracle, seed: int) -> None:
        self.oracle, self.seed = oracle, seed
        arrays = oracle.to_numpy(oracle.parameters)
        sizes = {name: float(np.sqrt(np.mean(a**2))) if a.size else 0.0 for name, a in arrays.items()}
        weights = [sizes[group.name] for group in oracle.groups if group.is_weight and sizes[group.name] > 0]
        usual = float(np.median(weights or [size for size in sizes.values() if size > 0] or [1.0]))
        self._bounds = {name: 3**0.5 * max(size, _LEAST * usual) for name, size in sizes.items()}

    def __getitem__(self, index: int) -> ParameterVector:
        draws = prng.uniform(self.oracle, self.seed, _FIRST_POINT + index)
        return ParameterVector(draws.xp, {name: a * self._bounds[name] for name, a in draws.arrays.items()})


_ROUNDINGS = 30


@dataclass(frozen=True)
class Equations:
    """What each unit contributes to each equation.

    Parameters
    ----------
    units
        Rows and columns: the unknowns.
    coefficients
        Array (equations, units).
    magnitudes
        What each parameter contributes, in absolute value, on average.
    rounding
        Rounding in what is added up in each unit, on average.
    """

    units: Units
    coefficients: HostArray
    magnitudes: Mapping[str, HostArray]
    rounding: HostArray

    @cached_property
    def sizes(self) -> HostArray:
        """What is added up in each unit, in absolute value, on average."""
        return self.units.sums(self.magnitudes)

    @cached_property
    def acting(self) -> npt.NDArray[np.bool_]:
        """Which units act on the outputs: on some of the inputs, at some of the points, and by more than rounding."""
        return self.sizes > _ROUNDINGS * self.rounding

    @cached_property
    def components(self) -> Numbers:
        """A number for each unit, the same for those that meet in entries that act."""
        return components(self.units, self.magnitudes)

    def joined(self, more: Equations) -> Equations:
        """Both systems in one."""
        return Equations(
            self.units,
            np.concatenate([self.coefficients, more.coefficients]),
            {name: (values + more.magnitudes[name]) / 2 for name, values in self.magnitudes.items()},
            (self.rounding + more.rounding) / 2,
        )

    def of_blocks(self, blocks: Sequence[Numbers]) -> HostArray:
        """One column for each block, in units of what is added up in it: what cancels within a block shall look small."""
        columns = np.zeros((len(self.coefficients), len(blocks)))
        for number, block in enumerate(blocks):
            columns[:, number] = self.coefficients[:, block].sum(axis=1)
        return columns / self.sizes_of_blocks(blocks)

    def sizes_of_blocks(self, blocks: Sequence[Numbers]) -> HostArray:
        """What is added up in each block, in absolute value."""
        return np.array([self.sizes[block].sum() for block in blocks])


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
    return prng.normal_values(seed, _STREAM, number, shape[0] * shape[1]).reshape(shape)


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


def components(units: Units, magnitudes: Mapping[str, HostArray]) -> Numbers:
    """A number for each unit, the same for those that meet in entries whose magnitude is not zero, or are linked by such.

    All rows up and all columns down moves nothing if they form a component: those of a channel group, or what a mask leaves.
    """
    meetings = list(_meetings(units, magnitudes))
    here, there = np.concatenate(meetings, axis=1) if meetings else np.zeros((2, 0), dtype=np.intp)
    graph = coo_array((np.ones(len(here), dtype=np.int8), (here, there)), shape=(len(units), len(units)))
    return connected_components(graph, directed=False)[1].astype(np.intp)


def _meetings(units: Units, magnitudes: Mapping[str, HostArray]) -> Iterator[Numbers]:
    """The units on the first side of a parameter and on each other one, entry by entry."""
    for first, start in zip(units.sides, units.starts, strict=False):
        for other, place in zip(units.sides, units.starts, strict=False):
            if other.group is first.group and place > start and units.on_first_side(int(start)):
                pair = np.broadcast_arrays(first.units + start, other.units + place)
                between = tuple(axis for axis, size in enumerate(pair[0].shape) if size == 1)
                linked = (magnitudes[first.group.name] > 0).any(axis=between, keepdims=True)
                yield np.stack([numbers[linked] for numbers in pair])
