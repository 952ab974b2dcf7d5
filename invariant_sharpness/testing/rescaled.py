"""Networks with some of their units rescaled by powers of two, in words that a reader can act on.

Not data classes: Hypothesis prints those by their fields.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from invariant_sharpness.coordinates import Moved
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.symmetries import Symmetries, chain_rescalings, unit_count
from invariant_sharpness.testing.specimens import Specimen


class RescaledUnits:
    """Hidden units of a plain chain of layers, each times a power of two. Prints as ``layer 0 unit 0 scaled by 2**1``.

    Parameters
    ----------
    oracle
        Of the network.
    exponents
        By layer and unit.
    """

    def __init__(self, oracle: CurvatureOracle, exponents: Mapping[tuple[int, int], int]) -> None:
        self.oracle, self.exponents = oracle, exponents

    def __repr__(self) -> str:
        return ", ".join(f"layer {i} unit {j} scaled by 2**{k}" for (i, j), k in sorted(self.exponents.items()))

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        """The rescaled parameters; those given are not touched."""
        groups = self.oracle.groups
        for layer, rescaling in enumerate(chain_rescalings(groups)):
            units = range(unit_count(groups, rescaling))
            factors = np.ldexp(1.0, [self.exponents.get((layer, unit), 0) for unit in units])
            parameters = rescaling.apply(self.oracle, parameters, factors)
        return parameters


class RescaledGenerators:
    """Found symmetries, each with a power of two. Prints as what goes up and what goes down.

    Parameters
    ----------
    symmetries
        Of the network.
    exponents
        By the number of the generator.
    """

    def __init__(self, symmetries: Symmetries, exponents: Mapping[int, int]) -> None:
        self.symmetries, self.exponents = symmetries, exponents

    def __repr__(self) -> str:
        return "; ".join(f"{self.symmetries[i]}, by 2**{k}" for i, k in sorted(self.exponents.items()))

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        """The rescaled parameters; those given are not touched."""
        logarithms = np.zeros(len(self.symmetries))
        logarithms[list(self.exponents)] = list(self.exponents.values())
        return self.symmetries.rescaling(logarithms).apply(parameters)


class RescaledNetwork:
    """A network, and the same function at other parameters.

    Parameters
    ----------
    specimen
        The network.
    move
        Of its parameters.
    """

    def __init__(self, specimen: Specimen, move: RescaledUnits) -> None:
        self.specimen, self.move = specimen, move

    def __repr__(self) -> str:
        return f"{self.move} in {self.specimen}"

    @property
    def oracle(self) -> CurvatureOracle:
        """Of the network as it is."""
        return self.specimen.oracle

    @property
    def moved(self) -> Moved:
        """Of the same function at the rescaled parameters."""
        return Moved(self.oracle, self.move.apply(self.oracle.parameters))
