"""Verification of generators by finite rescalings with large factors."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import Stream
from invariant_sharpness.protocol import CurvatureOracle, JacobianOracle, Rows, machine_epsilon, require
from invariant_sharpness.symmetries.generators import Generator, together
from invariant_sharpness.symmetries.search.equations import EXAMPLES, RandomPoints

LARGEST_FACTOR = 1e3
_MAX_TESTS = 100
_POINT = 2**19


class Verification:
    """The outputs of a network at its own parameters and at a random point, with which those after a rescaling are compared.

    Parameters
    ----------
    oracle
        The oracle of the network.
    seed
        The seed of the random point and the factors.

    Attributes
    ----------
    largest_change
        The largest relative change of the outputs under any generator that was verified.
    """

    def __init__(self, oracle: CurvatureOracle, seed: int) -> None:
        self.oracle, self.seed = require(oracle, JacobianOracle, metric="find_symmetries"), seed
        self.largest_change = 0.0
        self._points = [oracle.parameters, RandomPoints(oracle, seed)[_POINT]]
        self._outputs = [self._outputs_at(point) for point in self._points]

    @property
    def tolerance(self) -> float:
        """The relative change that rounding explains: 1e-10 in double precision, 4e-5 in single precision."""
        return machine_epsilon(self.oracle) ** 0.64

    def verified(self, generators: Sequence[Generator]) -> list[Generator]:
        """Return those that leave the outputs as they are, with factors up to 1e3.

        A few are tried together; where that fails, they are halved until those that fail stand alone.
        """
        width = -(-len(generators) // _MAX_TESTS) or 1
        chunks = [generators[start : start + width] for start in range(0, len(generators), width)]
        return [generator for chunk in chunks for generator in self._verified(chunk)]

    def _verified(self, chunk: Sequence[Generator]) -> list[Generator]:
        change = self._change(chunk)
        if change <= self.tolerance:
            self.largest_change = max(self.largest_change, change)
            return list(chunk)
        if len(chunk) == 1:
            return []
        half = len(chunk) // 2
        return self._verified(chunk[:half]) + self._verified(chunk[half:])

    def _change(self, chunk: Sequence[Generator]) -> float:
        """Compute the largest relative change of the outputs, under factors between the root of 1e3 and 1e3, or their inverses.

        At the random point it is the inverse factors: what makes the constant of a normalization layer vanish makes it tell there.
        """
        draws = prng.uniform_values(self.seed, Stream.SYMMETRY_VERIFICATION, 0, len(chunk))
        factors = np.sign(draws) * (1 + np.abs(draws)) / 2 * log2(LARGEST_FACTOR)
        rescalings = [
            together(self.oracle, chunk[0].variables, chunk, logarithms) for logarithms in (factors, -factors)
        ]
        triples = zip(rescalings, self._points, self._outputs, strict=True)
        return max(relative_change(before, self._outputs_at(one.apply(point))) for one, point, before in triples)

    def _outputs_at(self, point: ParameterVector) -> Rows:
        return self.oracle.outputs(point, EXAMPLES)


def relative_change(before: Rows, after: Rows) -> float:
    """Return the largest difference, relative to the largest value."""
    difference = float(np.abs(after - before).max(initial=0.0))
    return difference / float(np.abs(before).max()) if difference else 0.0
