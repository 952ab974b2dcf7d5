"""The rescaling symmetries of a network: their generators, and the finite rescalings that these make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import Stream
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.symmetries.scaling_variables import (
    Exponents,
    HostArray,
    ScalingVariables,
    any_logarithms,
    whole_logarithms,
)


@dataclass(frozen=True, slots=True, eq=False)
class Generator:
    r"""Rows and columns that can be rescaled together without a change of the function: :math:`\theta_i \to c^{a_i} \theta_i` for all c > 0.

    It prints as what goes up and what goes down with c.

    Parameters
    ----------
    variables
        The scaling variables of the network: its rows and columns.
    exponents
        The exponent of each variable that takes part; the exponent :math:`a_i` of an entry is the sum of those of its row and its column.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> network = ReluNetwork([np.array([[1.0, 2.0]]), np.array([[3.0]])], [np.zeros(1), np.zeros(1)])
    >>> (generator,) = ish.find_symmetries(NetworkOracle(network, np.eye(2), np.ones((2, 1)), loss="mse"))
    >>> print(generator)
    layers.0.weight, layers.0.bias up, layers.1.weight down
    """

    variables: ScalingVariables
    exponents: Exponents

    def __str__(self) -> str:
        words = {"up": self._moved(1.0), "down": self._moved(-1.0), **self._unusual()}
        return ", ".join(f"{', '.join(names)} {word}" for word, names in words.items() if names)

    @property
    def signature(self) -> tuple[tuple[int, float], ...]:
        """The axes of parameters that take part, with their exponents: equal for all units of a layer."""
        return tuple(sorted({(int(self.variables.axis_of[number]), a) for number, a in self.exponents.items()}))

    @property
    def moves_whole_parameters(self) -> bool:
        """Whether all entries of each parameter that takes part have one exponent."""
        exponents = self.variables.exponents(self.exponents).values()
        return all(np.ptp(own) == 0 for own in exponents if own.size)

    def _moved(self, exponent: float) -> list[str]:
        chosen = {number: a for number, a in self.exponents.items() if a == exponent}
        return [axis.describe(numbers) for axis, numbers in self.variables.by_axis(chosen).values()]

    def _unusual(self) -> dict[str, list[str]]:
        others = sorted({a for a in self.exponents.values() if abs(a) != 1})
        return {f"to the power {a:g}": self._moved(a) for a in others}


@dataclass(frozen=True, slots=True, eq=False)
class Rescaling:
    """A finite rescaling: every entry times the factor of its row and that of its column.

    It is a transformation, and also the symmetry that consists of this one transformation.

    Parameters
    ----------
    oracle
        The oracle of the network, which places the factors where its parameters are.
    variables
        The scaling variables of the network: its rows and columns.
    logarithms
        The logarithm to base 2 of the factor of each variable that takes part.
    kind
        The invariance that covers it.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> network = ReluNetwork([np.array([[1.0, 2.0]]), np.array([[3.0]])], [np.zeros(1), np.zeros(1)])
    >>> oracle = NetworkOracle(network, np.eye(2), np.ones((2, 1)), loss="mse")
    >>> rescaling = ish.find_symmetries(oracle).rescaling([1.0])
    >>> print(rescaling)
    3 rows and columns times 2**-1 to 2**1
    >>> rescaling.apply(oracle.parameters)["layers.0.weight"].tolist()
    [[2.0, 4.0]]
    """

    oracle: CurvatureOracle
    variables: ScalingVariables
    logarithms: Mapping[int, float]
    kind: str = "row_column"

    def __str__(self) -> str:
        chosen = [value for value in self.logarithms.values() if value]
        if not chosen:
            return "nothing rescaled"
        return f"{len(chosen)} rows and columns times 2**{min(chosen):.4g} to 2**{max(chosen):.4g}"

    def apply(self, parameters: ParameterVector) -> ParameterVector:
        """Return the rescaled parameters; those given are not touched."""
        exponents: dict[str, Any] = self.variables.exponents(self.logarithms)
        return parameters * self.oracle.from_numpy({name: np.exp2(a) for name, a in exponents.items()})

    def transformations(self, _seed: int = 0, /) -> Mapping[str, Rescaling]:
        """Return this one transformation."""
        return {"as given": self}


_SHOWN = 20
_WORDS = {"row_column": "rescaling symmetries", "layer": "of whole layers"}


@dataclass(frozen=True, slots=True, eq=False)
class Symmetries(Sequence[Generator]):
    """Independent generators of the rescalings that leave the outputs of a network as they are.

    Parameters
    ----------
    oracle
        The oracle of the network.
    variables
        The scaling variables of the network: its rows and columns.
    generators
        The generators that were found, and verified by finite rescalings. Trivial directions are left out: the rows of a matrix up and its
        columns down, which changes no entry.
    block_width
        The width of the groups of neighbouring units among which was searched at last: 1 is all units by themselves, a complete search.
    gap
        How clearly the solutions stood out: the least singular value that was counted as nonzero, over the largest that was counted as zero.
    largest_change
        The largest relative change of the outputs under finite rescalings with factors between 1/1024 and 1024.
    idle
        The number of rows and columns that do not act on the outputs at all, such as the biases of keys, or the embeddings of unused tokens.
    refused
        The number of solutions that were not verified, and were left out.
    kind
        The invariance that covers them: ``"row_column"``, or ``"layer"`` for those of :meth:`by_layer`.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> network = ReluNetwork([np.array([[1.0, 2.0]]), np.array([[3.0]])], [np.zeros(1), np.zeros(1)])
    >>> symmetries = ish.find_symmetries(NetworkOracle(network, np.eye(2), np.ones((2, 1)), loss="mse"))
    >>> len(symmetries), symmetries.complete, len(symmetries.by_layer())
    (1, True, 1)
    """

    oracle: CurvatureOracle
    variables: ScalingVariables
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
        return self.block_width == 1 and not self.refused and not self.variables.without_all_pairs

    def random(self, seed: int = 0, *, largest: float = 16.0) -> Rescaling:
        """Draw a power of two for each generator, from ``1/largest`` to ``largest``: products with them are exact in floating point."""
        return self.rescaling(whole_logarithms(self._draws(seed), largest))

    def random_factors(self, seed: int = 0, *, largest: float = 16.0) -> Rescaling:
        """Draw any factor for each generator, from ``1/largest`` to ``largest``, uniform in its logarithm."""
        return self.rescaling(any_logarithms(self._draws(seed), largest))

    def transformations(self, seed: int = 0, /) -> Mapping[str, Rescaling]:
        """Return rescalings by powers of two, by any factors, and by extreme ones, as large as the precision of the parameters allows for."""
        extreme = machine_epsilon(self.oracle) ** -0.25
        return {
            "powers of two": self.random(seed),
            "any factors": self.random_factors(seed),
            f"factors up to {extreme:.0f}": self.random_factors(seed + 1, largest=extreme),
        }

    moves = transformations

    def rescaling(self, logarithms: Sequence[float] | HostArray) -> Rescaling:
        """Rescale by the factor ``2**t`` along each generator.

        Raises
        ------
        ArgumentError
            If there is not one finite logarithm for each generator.
        """
        if np.shape(logarithms) != (len(self),) or not np.isfinite(logarithms).all():
            msg = f"{np.size(logarithms)} logarithms for {len(self)} generators: give one finite number for each"
            raise ArgumentError(msg)
        return replace(together(self.oracle, self.variables, self.generators, logarithms), kind=self.kind)

    def by_layer(self) -> Symmetries:
        """Join the generators of each layer, and keep those that rescale whole parameters, as in Dinh et al. (2017)."""
        layers: dict[object, dict[int, float]] = {}
        for generator in self.generators:
            layers.setdefault(generator.signature, {}).update(generator.exponents)
        candidates = (Generator(self.variables, exponents) for exponents in layers.values())
        return replace(self, generators=tuple(g for g in candidates if g.moves_whole_parameters), kind="layer")

    def _draws(self, seed: int) -> HostArray:
        return prng.uniform_values(seed, Stream.GENERATOR_FACTORS, 0, len(self))

    def _lines(self) -> list[str]:
        kinds: dict[object, list[Generator]] = {}
        for generator in self.generators:
            kinds.setdefault(generator.signature, []).append(generator)
        lines = [f"  {len(alike)} like: {alike[0]}" if len(alike) > 1 else f"  {alike[0]}" for alike in kinds.values()]
        return lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"  and {len(lines) - _SHOWN} more kinds"]

    def _remarks(self) -> list[str]:
        remarks = [
            f"outputs changed by {self.largest_change:.1e} under factors up to 1024 and their inverses; gap {self.gap:.1e}"
        ]
        if self.block_width > 1:
            remarks.append(
                f"single units were searched where they have one number in all parameters, others in groups of up to {self.block_width}: "
                f"find_symmetries(..., max_unknowns={len(self.variables)}) searches all of them"
            )
        if self.variables.without_all_pairs:
            remarks.append(
                f"not for all pairs of their axes were {', '.join(self.variables.without_all_pairs)} searched: tell their roles by `groups=`"
            )
        if self.idle:
            remarks.append(f"{self.idle} rows and columns do not act on the outputs, and may be rescaled at will")
        if self.refused:
            remarks.append(f"{self.refused} solutions did not hold under finite rescalings and were left out")
        return remarks


def together(
    oracle: CurvatureOracle,
    variables: ScalingVariables,
    generators: Sequence[Generator],
    logarithms: Sequence[float] | HostArray,
) -> Rescaling:
    """Rescale with the factor ``2**t`` along each generator. Rescalings commute, so there is no order."""
    total: dict[int, float] = {}
    for generator, t in zip(generators, logarithms, strict=True):
        for number, exponent in generator.exponents.items():
            total[number] = total.get(number, 0.0) + float(t) * exponent
    return Rescaling(oracle, variables, total)
