"""Hidden units in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup
from invariant_sharpness.symmetries.scaling_variables import HostArray, Numbers
from invariant_sharpness.symmetries.unit_rescaling import chain_rescalings


@dataclass(frozen=True, slots=True)
class UnitPermutation:
    """Put the units of a layer in another order: what goes into them, and what goes out of them.

    Every metric that treats units alike is invariant to it (``"permutation"``); sampled ones with the same seed are not, since their draws
    belong to positions.

    Parameters
    ----------
    oracle
        The oracle of the network.
    incoming
        Names of the groups whose outputs are the units: a weight and its bias, and the gains and biases of a normalization. Buffers such as
        running means are no parameters and stay where they are, so a layer that has them cannot be permuted.
    outgoing
        Names of the weights whose inputs are the units. If there are several inputs per unit, as after flattening the positions of a channel,
        those of one unit stand together.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> network = ReluNetwork([np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]])], [np.zeros(2), np.zeros(1)])
    >>> oracle = NetworkOracle(network, np.array([[1.0]]), np.array([[0.0]]), loss="mse")
    >>> hidden = UnitPermutation(oracle, ("layers.0.weight", "layers.0.bias"), ("layers.1.weight",))
    >>> swapped = Permutation(hidden, np.array([1, 0])).apply(oracle.parameters)
    >>> swapped["layers.0.weight"].ravel().tolist(), swapped["layers.1.weight"].ravel().tolist()
    ([2.0, 1.0], [4.0, 3.0])
    """

    oracle: CurvatureOracle
    incoming: tuple[str, ...]
    outgoing: tuple[str, ...]
    kind = "permutation"

    def __str__(self) -> str:
        return f"units from {', '.join(self.incoming)} to {', '.join(self.outgoing)} in another order"

    def transformations(self, seed: int, /) -> Mapping[str, Permutation]:
        """Return one random order."""
        groups = {group.name: group for group in self.oracle.groups}
        first = groups[self.incoming[0]]
        units = prod(first.shape[axis] for axis in first.output_axes or range(len(first.shape)))
        return {"random order": Permutation(self, prng.permutation(seed, units))}

    moves = transformations


@dataclass(frozen=True, slots=True)
class Permutation:
    """A transformation: units in a given order.

    Parameters
    ----------
    symmetry
        The units.
    order
        The old number of each unit.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> network = ReluNetwork([np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]])])
    >>> oracle = NetworkOracle(network, np.array([[1.0]]), np.array([[0.0]]), loss="mse")
    >>> hidden = UnitPermutation(oracle, ("layers.0.weight",), ("layers.1.weight",))
    >>> Permutation(hidden, np.array([1, 0])).apply(oracle.parameters)["layers.0.weight"].ravel().tolist()
    [2.0, 1.0]
    """

    symmetry: UnitPermutation
    order: Numbers

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        """Return the parameters with their units in the new order; those given are not touched.

        Raises
        ------
        ArgumentError
            If a group has another number of units, or is a grouped convolution.
        """
        oracle = self.symmetry.oracle
        arrays = oracle.to_numpy(parameters)
        for group in oracle.groups:
            every = tuple(range(len(group.shape)))
            if group.name in self.symmetry.incoming:
                arrays[group.name] = _reordered(group, group.output_axes or every, arrays[group.name], self.order)
            if group.name in self.symmetry.outgoing:
                arrays[group.name] = _reordered(group, group.input_axes, arrays[group.name], self.order)
        return oracle.from_numpy(arrays)


def chain_permutations(oracle: CurvatureOracle) -> list[UnitPermutation]:
    """List the permutations of a plain chain of layers, where the outputs of each weight are the inputs of the next.

    Parameters
    ----------
    oracle
        The oracle of the network.

    Returns
    -------
    list of UnitPermutation
        One for each hidden layer.

    Examples
    --------
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> oracle = NetworkOracle(ReluNetwork.initialize((4, 5, 3), seed=0), [[0.0] * 4], [0])
    >>> print(*chain_permutations(oracle))
    units from layers.0.weight, layers.0.bias to layers.1.weight in another order
    """
    return [UnitPermutation(oracle, chain.incoming, chain.outgoing) for chain in chain_rescalings(oracle.groups)]


def _reordered(group: ParameterGroup, axes: Sequence[int], values: HostArray, order: Numbers) -> HostArray:
    """Take the entries along these axes, counted together, in the new order."""
    front = np.moveaxis(values, axes, range(len(axes)))
    rows = front.reshape(prod(values.shape[axis] for axis in axes), -1)
    repeats, rest = divmod(len(rows), len(order))
    if rest or not repeats or group.channel_groups > 1:
        msg = f"{len(order)} units cannot be put in another order in {group.name!r}, which has {len(rows)} along these axes in {group.channel_groups} channel groups"
        raise ArgumentError(msg)
    places = (order[:, None] * repeats + np.arange(repeats)).ravel()
    return np.moveaxis(rows[places].reshape(front.shape), range(len(axes)), axes)
