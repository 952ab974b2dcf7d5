"""Whether a generator leaves the outputs alone when its factor is large."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, JacobianOracle, Rows, machine_epsilon, require
from invariant_sharpness.symmetries.generators import Generator, together
from invariant_sharpness.symmetries.search.equations import EXAMPLES, FreshPoints

LARGEST_FACTOR = 1e3
_MOST_TESTS = 100
_STREAM = 2**38
_FRESH = 2**19


class Verification:
    """The outputs of a network at its own parameters and at fresh ones, with which those after a rescaling are compared.

    Parameters
    ----------
    oracle
        Of the network.
    seed
        Of the fresh parameters and the factors.

    Attributes
    ----------
    largest_change
        The largest relative change of the outputs under any generator that held.
    """

    def __init__(self, oracle: CurvatureOracle, seed: int) -> None:
        self.oracle, self.seed = require(oracle, JacobianOracle, metric="find_symmetries"), seed
        self.largest_change = 0.0
        self._places = [oracle.parameters, FreshPoints(oracle, seed)[_FRESH]]
        self._outputs = [self._outputs_at(place) for place in self._places]

    @property
    def tolerance(self) -> float:
        """Relative change that rounding explains: 1e-10 in double precision, 4e-5 in single precision."""
        return machine_epsilon(self.oracle) ** 0.64

    def held(self, generators: Sequence[Generator]) -> list[Generator]:
        """Those that leave the outputs alone, with factors up to 1e3. Few are tried together; if that fails, one by one."""
        width = -(-len(generators) // _MOST_TESTS) or 1
        parts = [generators[start : start + width] for start in range(0, len(generators), width)]
        return [generator for part in parts for generator in self._held(part)]

    def _held(self, part: Sequence[Generator]) -> list[Generator]:
        change = self._change(part)
        if change <= self.tolerance:
            self.largest_change = max(self.largest_change, change)
            return list(part)
        if len(part) == 1:
            return []
        half = len(part) // 2
        return self._held(part[:half]) + self._held(part[half:])

    def _change(self, part: Sequence[Generator]) -> float:
        """Largest relative change of the outputs, under factors between the root of 1e3 and 1e3, or their inverses.

        At the fresh parameters it is the inverse factors: what makes the constant of a normalization layer vanish makes it tell there.
        """
        draws = prng.uniform_values(self.seed, _STREAM, 0, len(part))
        factors = np.sign(draws) * (1 + np.abs(draws)) / 2 * log2(LARGEST_FACTOR)
        moves = [together(self.oracle, part[0].units, part, logarithms) for logarithms in (factors, -factors)]
        triples = zip(moves, self._places, self._outputs, strict=True)
        return max(relative_change(before, self._outputs_at(move.apply(place))) for move, place, before in triples)

    def _outputs_at(self, place: ParameterVector) -> Rows:
        return self.oracle.outputs(place, EXAMPLES)


def relative_change(before: Rows, after: Rows) -> float:
    """Largest difference, in units of the largest value."""
    difference = float(np.abs(after - before).max(initial=0.0))
    return difference / float(np.abs(before).max()) if difference else 0.0
