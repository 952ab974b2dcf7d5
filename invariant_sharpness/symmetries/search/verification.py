"""Verification of generators by finite rescalings with large factors, up and down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, prod

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import Stream
from invariant_sharpness.protocol import CurvatureOracle, Rows, machine_epsilon
from invariant_sharpness.symmetries.generators import Generator, together
from invariant_sharpness.symmetries.scaling_variables import HostArray
from invariant_sharpness.symmetries.search.points import EXAMPLES, RandomPoints, spread_examples

_EXAMPLES = 29
_LARGEST = 10.0
_SMALLEST_UP = 8.0
_SMALLEST_DOWN = 5.0
"""Logarithms to base 2. Upwards a unit shall meet its limit; downwards the constant of a normalization begins to show."""

_MAX_TESTS = 20
_FIRST_POINT = 2**19
_MOST_POINTS = 8

Change = Callable[[Sequence[Generator]], float]


class Verification:
    r"""Finite rescalings of a network, at its own parameters and at random points, on examples spread over its data.

    A unit that is linear between two limits, such as ReLU6, obeys the equations wherever it stays between them; one with a threshold, wherever
    it does not meet it. So each generator multiplies by a factor between :math:`2^8` and :math:`2^{10}`, *and* divides by one
    between :math:`2^5` and :math:`2^{10}`, at each point. A generator whose rows and columns are all off at a random point is tested at further ones, until it acts.

    Parameters
    ----------
    oracle
        The oracle of the network.
    points
        The random points.

    Attributes
    ----------
    largest_change
        The largest relative change of the outputs under any generator that was verified.
    untested
        The generators that acted at none of the random points.
    examples
        The number of examples on which outputs were compared.
    """

    def __init__(self, oracle: CurvatureOracle, points: RandomPoints) -> None:
        self.oracle, self.seed, self._random = oracle, points.seed, points
        self.largest_change, self.untested = 0.0, list[Generator]()
        self._spread = spread_examples(oracle, _EXAMPLES)
        self._points = [oracle.parameters]
        self._outputs = [self._spread.outputs(oracle.parameters, _EXAMPLES)]
        self._acting = list[HostArray]()
        self.examples = len(self._outputs[0])
        self._loss = oracle.loss(oracle.parameters)

    @property
    def tolerance(self) -> float:
        """The relative change of outputs that rounding explains: 1e-10 in double precision, 4e-5 in single precision."""
        return machine_epsilon(self.oracle) ** 0.64

    @property
    def loss_tolerance(self) -> float:
        """The change of the loss, relative to itself or to 1, that rounding explains: as in a certificate."""
        return machine_epsilon(self.oracle) ** 0.5

    def verified(self, generators: Sequence[Generator]) -> list[Generator]:
        """Return those that leave the outputs of the examples as they are, and the loss of all data.

        A few are tried together; where that fails, they are halved until those that fail stand alone.
        """
        self.untested = [generator for generator in generators if not self._acts(generator)]
        tested = [generator for generator in generators if generator not in self.untested]
        width = -(-len(tested) // _MAX_TESTS) or 1
        chunks = [tested[start : start + width] for start in range(0, len(tested), width)]
        unchanged = [one for chunk in chunks for one in _passing(chunk, self._change_of_outputs, self.tolerance)]
        return _passing(unchanged, self._change_of_loss, self.loss_tolerance)

    def _acts(self, generator: Generator) -> bool:
        """Whether a row or column of the generator acts at one of the random points; adds points until it does."""
        numbers = list(generator.exponents)
        while not any(sizes[numbers].any() for sizes in self._acting):
            if len(self._acting) == _MOST_POINTS:
                return False
            self._add_point(generator)
        return True

    def _add_point(self, generator: Generator) -> None:
        point, few = self._random[_FIRST_POINT + len(self._acting)], self._random.oracle
        shape = few.outputs(point, EXAMPLES).shape
        cotangents = prng.normal_values(self.seed, Stream.SYMMETRY_VERIFICATION, len(self._acting) + 1, prod(shape))
        contributions = point * few.vector_jacobian_product(point, cotangents.reshape(shape))
        self._acting.append(generator.variables.sums(self.oracle.to_numpy(abs(contributions))))
        self._points.append(point)
        self._outputs.append(self._outputs_at(point))

    def _change_of_outputs(self, chunk: Sequence[Generator]) -> float:
        """Compute the largest relative change of the outputs at any of the points, under factors and their inverses."""
        change = 0.0
        for logarithms in self._logarithms(len(chunk)):
            rescaling = together(self.oracle, chunk[0].variables, chunk, logarithms)
            for point, before in zip(self._points, self._outputs, strict=True):
                change = max(change, relative_change(before, self._outputs_at(rescaling.apply(point))))
                if not change <= self.tolerance:
                    return inf
        self.largest_change = max(self.largest_change, change)
        return change

    def _change_of_loss(self, chunk: Sequence[Generator]) -> float:
        """Compute the change of the loss of all data at the model's own parameters, under powers of two and their inverses."""
        change = 0.0
        for logarithms in self._logarithms(len(chunk)):
            moved = together(self.oracle, chunk[0].variables, chunk, np.round(logarithms)).apply(self.oracle.parameters)
            change = max(change, abs(self._finite_loss(moved) - self._loss) / max(abs(self._loss), 1.0))
        return change

    def _logarithms(self, count: int) -> tuple[HostArray, HostArray]:
        """Draw one logarithm for each generator, about half of them upwards, and then others the other way."""
        draws = prng.uniform_values(self.seed, Stream.SYMMETRY_VERIFICATION, 0, count)
        up, down = (least + np.abs(draws) * (_LARGEST - least) for least in (_SMALLEST_UP, _SMALLEST_DOWN))
        return np.where(draws > 0, up, -down), np.where(draws > 0, -down, up)

    def _finite_loss(self, point: ParameterVector) -> float:
        try:
            return self.oracle.loss(point)
        except NonFiniteError:
            return inf

    def _outputs_at(self, point: ParameterVector) -> Rows:
        try:
            return self._spread.outputs(point, _EXAMPLES)
        except NonFiniteError:
            return np.full_like(self._outputs[0], np.nan)


def _passing(chunk: Sequence[Generator], change: Change, tolerance: float) -> list[Generator]:
    """Return those under which, together, the change is within the tolerance; halves them until it is."""
    if not chunk or change(chunk) <= tolerance:
        return list(chunk)
    if len(chunk) == 1:
        return []
    half = len(chunk) // 2
    return _passing(chunk[:half], change, tolerance) + _passing(chunk[half:], change, tolerance)


def relative_change(before: Rows, after: Rows) -> float:
    """Return the largest difference, relative to the largest value; infinity where it is not finite."""
    difference = float(np.abs(after - before).max(initial=0.0))
    if not np.isfinite(difference):
        return inf
    return difference / (float(np.abs(before).max()) or 1.0)
