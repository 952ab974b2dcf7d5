"""Generators of rescalings, and the finite rescalings that they make.

The rescaling symmetries of a network, together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log2
from typing import Any, overload

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.symmetries.units import Exponents, HostArray, Units


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


_STREAM = 2**39
_SHOWN = 20
_WORDS = {"row_column": "rescaling symmetries", "layer": "of whole layers"}


@dataclass(frozen=True, slots=True, eq=False)
class Symmetries(Sequence[Generator]):
    """Independent generators of the rescalings that leave the outputs of a network alone.

    Parameters
    ----------
    oracle
        Of the network.
    units
        Its rows and columns.
    generators
        What was found and held under finite rescalings. Rows up against columns down of the same matrix, which moves nothing, is left out.
    block_width
        The first search was for generators that move blocks of that many neighbouring units alike: 1 is all units by themselves, a complete search.
    gap
        How clearly the solutions stood out: the least singular value that was counted as nonzero, over the largest that was counted as zero.
    largest_change
        The largest relative change of the outputs under finite rescalings with factors up to 1e3.
    idle
        Number of rows and columns that do not act on the outputs at all, such as the biases of keys, or the embeddings of unused tokens.
    refused
        Number of solutions that did not hold, and were left out.
    kind
        What a metric must declare to survive them: ``"row_column"``, or ``"layer"`` for those of :meth:`by_layer`.
    """

    oracle: CurvatureOracle
    units: Units
    generators: tuple[Generator, ...]
    block_width: int
    gap: float
    largest_change: float
    idle: int
    refused: int
    kind: str = "row_column"

    def __len__(self) -> int:
        return len(self.generators)

    @overload
    def __getitem__(self, index: int) -> Generator: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Generator, ...]: ...
    def __getitem__(self, index: int | slice) -> Generator | tuple[Generator, ...]:
        return self.generators[index]

    def __iter__(self) -> Iterator[Generator]:
        return iter(self.generators)

    def __str__(self) -> str:
        remarks = self._remarks() if self.kind == "row_column" else []
        return "\n".join([f"{len(self)} {_WORDS[self.kind]}", *self._lines(), *remarks])

    @property
    def complete(self) -> bool:
        """Whether every row and column was an unknown of its own: then there is no other diagonal rescaling by rows and columns."""
        return self.block_width == 1 and not self.refused

    def random(self, seed: int = 0, *, largest: float = 16.0) -> Rescaling:
        """A power of two for each generator, from ``1/largest`` to ``largest``: products with them are exact in floating point."""
        bound = log2(largest)
        return self.rescaling(np.round(self._draws(seed) * (np.floor(bound) + 0.5)))

    def random_factors(self, seed: int = 0, *, largest: float = 16.0) -> Rescaling:
        """Any factor for each generator, from ``1/largest`` to ``largest``, uniform in its logarithm."""
        return self.rescaling(self._draws(seed) * log2(largest))

    def moves(self, seed: int = 0, /) -> Mapping[str, Rescaling]:
        """Rescalings by powers of two, by any factors, and by extreme ones, as large as the precision of the parameters allows for."""
        extreme = machine_epsilon(self.oracle) ** -0.25
        return {
            "powers of two": self.random(seed),
            "any factors": self.random_factors(seed),
            f"factors up to {extreme:.0f}": self.random_factors(seed + 1, largest=extreme),
        }

    def rescaling(self, logarithms: HostArray) -> Rescaling:
        """The factor ``2**t`` along each generator.

        Raises
        ------
        ValueError
            If there is not one finite logarithm for each generator.
        """
        if np.shape(logarithms) != (len(self),) or not np.isfinite(logarithms).all():
            msg = f"{np.size(logarithms)} logarithms for {len(self)} generators: give one finite number for each"
            raise ValueError(msg)
        return together(self.oracle, self.units, self.generators, logarithms)

    def by_layer(self) -> Symmetries:
        """The generators of each layer in one: those that rescale whole parameters, as in Dinh et al. (2017)."""
        layers: dict[object, dict[int, float]] = {}
        for generator in self.generators:
            layers.setdefault(generator.signature, {}).update(generator.exponents)
        candidates = (Generator(self.units, exponents) for exponents in layers.values())
        return replace(self, generators=tuple(g for g in candidates if g.moves_whole_parameters), kind="layer")

    def _draws(self, seed: int) -> HostArray:
        return prng.uniform_values(seed, _STREAM, 0, len(self))

    def _lines(self) -> list[str]:
        kinds: dict[object, list[Generator]] = {}
        for generator in self.generators:
            kinds.setdefault(generator.signature, []).append(generator)
        lines = [f"  {len(alike)} like: {alike[0]}" if len(alike) > 1 else f"  {alike[0]}" for alike in kinds.values()]
        return lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"  and {len(lines) - _SHOWN} more kinds"]

    def _remarks(self) -> list[str]:
        remarks = [f"outputs changed by {self.largest_change:.1e} under factors up to 1e3; gap {self.gap:.1e}"]
        if self.block_width > 1:
            remarks.append(
                f"searched first by blocks of up to {self.block_width} units; what moves single units of them alone was not looked for"
            )
        if self.idle:
            remarks.append(f"{self.idle} rows and columns do not act on the outputs, and may be rescaled at will")
        if self.refused:
            remarks.append(f"{self.refused} solutions did not hold under finite rescalings and were left out")
        return remarks


def together(
    oracle: CurvatureOracle, units: Units, generators: Sequence[Generator], logarithms: Sequence[float] | HostArray
) -> Rescaling:
    """Rescale with the factor ``2**t`` along each generator. Rescalings commute, so there is no order."""
    total: dict[int, float] = {}
    for generator, t in zip(generators, logarithms, strict=True):
        for unit, exponent in generator.exponents.items():
            total[unit] = total.get(unit, 0.0) + float(t) * exponent
    return Rescaling(oracle, units, total)
