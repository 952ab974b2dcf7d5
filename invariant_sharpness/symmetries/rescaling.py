"""Generators of rescalings, and the finite rescalings that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.symmetries.units import Exponents, Units
from invariant_sharpness.vector import ParameterVector


@dataclass(frozen=True, slots=True, eq=False)
class Generator:
    r"""Rows and columns that can be rescaled together without a change of the function: :math:`\theta_i \to c^{a_i} \theta_i` for all c > 0.

    Prints as what goes up and what goes down with c.

    Parameters
    ----------
    units
        All rows and columns of the network.
    exponents
        The exponent of each row or column that takes part; the exponent :math:`a_i` of an entry is the sum of those of its row and its column.
    """

    units: Units
    exponents: Exponents

    def __str__(self) -> str:
        words = {"up": self._moved(1.0), "down": self._moved(-1.0), **self._unusual()}
        return ", ".join(f"{', '.join(names)} {word}" for word, names in words.items() if names)

    @property
    def signature(self) -> tuple[tuple[int, float], ...]:
        """Which sides of which parameters take part, with their exponents: alike for all units of a layer."""
        return tuple(sorted({(int(self.units.side_of[unit]), a) for unit, a in self.exponents.items()}))

    @property
    def moves_whole_parameters(self) -> bool:
        """Whether all entries of each parameter that takes part move alike."""
        return all(
            np.ptp(exponents) == 0 for exponents in self.units.exponents(self.exponents).values() if exponents.size
        )

    def _moved(self, exponent: float) -> list[str]:
        chosen = {unit: a for unit, a in self.exponents.items() if a == exponent}
        return [side.describe(units) for side, units in self.units.by_side(chosen).values()]

    def _unusual(self) -> dict[str, list[str]]:
        others = sorted({a for a in self.exponents.values() if abs(a) != 1})
        return {f"to the power {a:g}": self._moved(a) for a in others}


@dataclass(frozen=True, slots=True, eq=False)
class Rescaling:
    """A finite rescaling: the entries of each row and column that takes part, times a power of two.

    Parameters
    ----------
    oracle
        Of the network; it places the factors where its parameters are.
    units
        All rows and columns of the network.
    logarithms
        The logarithm to base 2 of the factor of each row and column.
    """

    oracle: CurvatureOracle
    units: Units
    logarithms: Mapping[int, float]

    def __str__(self) -> str:
        chosen = [value for value in self.logarithms.values() if value]
        if not chosen:
            return "nothing rescaled"
        return f"{len(chosen)} rows and columns times 2**{min(chosen):.4g} to 2**{max(chosen):.4g}"

    def apply(self, parameters: ParameterVector) -> ParameterVector:
        """The rescaled parameters; those given are not touched."""
        exponents: dict[str, Any] = self.units.exponents(self.logarithms)
        return parameters * self.oracle.from_numpy({name: np.exp2(a) for name, a in exponents.items()})
