"""Hidden units in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup
from invariant_sharpness.symmetries.unit_rescaling import chain_rescalings
from invariant_sharpness.symmetries.units import HostArray, Numbers


@dataclass(frozen=True, slots=True)
class UnitPermutation:
    """Put the units of a layer in another order: what goes into them, and what goes out of them.

    Survived by every metric that treats units alike; not by sampled ones with the same seed, whose draws belong to places.

    Parameters
    ----------
    oracle
        Of the network.
    incoming
        Names of the groups whose outputs are the units: a weight and its bias, and the gains and biases of a normalization. Buffers such as
        running means are no parameters and stay where they are, so a layer that has them cannot be permuted.
    outgoing
        Names of the weights whose inputs are the units. If there are several inputs per unit, as after flattening the positions of a channel,
        those of one unit stand together.
    """

    oracle: CurvatureOracle
    incoming: tuple[str, ...]
    outgoing: tuple[str, ...]
    kind = "permutation"

    def __str__(self) -> str:
        return f"units from {', '.join(self.incoming)} to {', '.join(self.outgoing)} in another order"

    def moves(self, seed: int, /) -> Mapping[str, Permuted]:
        """One random order."""
        groups = {group.name: group for group in self.oracle.groups}
        first = groups[self.incoming[0]]
        units = prod(first.shape[axis] for axis in first.output_axes or range(len(first.shape)))
        return {"random order": Permuted(self, prng.permutation(seed, units))}


@dataclass(frozen=True, slots=True)
class Permuted:
    """Units in a given order.

    Parameters
    ----------
    permutation
        Which units.
    order
        The old number of each unit.
    """

    permutation: UnitPermutation
    order: Numbers

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        """The parameters with their units in the new order; those given are not touched.

        Raises
        ------
        ValueError
            If a group has another number of units, or is a grouped convolution.
        """
        oracle = self.permutation.oracle
        arrays = oracle.to_numpy(parameters)
        for group in oracle.groups:
            every = tuple(range(len(group.shape)))
            if group.name in self.permutation.incoming:
                arrays[group.name] = _reordered(group, group.output_axes or every, arrays[group.name], self.order)
            if group.name in self.permutation.outgoing:
                arrays[group.name] = _reordered(group, group.input_axes, arrays[group.name], self.order)
        return oracle.from_numpy(arrays)


def chain_permutations(oracle: CurvatureOracle) -> list[UnitPermutation]:
    """The permutations of a plain chain of layers: each weight's outputs are the next weight's inputs."""
    return [UnitPermutation(oracle, chain.incoming, chain.outgoing) for chain in chain_rescalings(oracle.groups)]


def _reordered(group: ParameterGroup, axes: Sequence[int], values: HostArray, order: Numbers) -> HostArray:
    """Take the entries along these axes, counted together, in the new order."""
    front = np.moveaxis(values, axes, range(len(axes)))
    rows = front.reshape(prod(values.shape[axis] for axis in axes), -1)
    repeats, rest = divmod(len(rows), len(order))
    if rest or not repeats or group.channel_groups > 1:
        msg = f"{len(order)} units cannot be put in another order in {group.name!r}, which has {len(rows)} along these axes in {group.channel_groups} channel groups"
        raise ValueError(msg)
    places = (order[:, None] * repeats + np.arange(repeats)).ravel()
    return np.moveaxis(rows[places].reshape(front.shape), range(len(axes)), axes)
