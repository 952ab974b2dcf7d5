"""Rescaling of hidden units, equations (15) and (16) of Tsuzuku, Sato and Sugiyama (2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup

HostArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class UnitRescaling:
    r"""Multiply what goes into each hidden unit by :math:`\alpha_i > 0` and divide what goes out of it by the same.

    The function of the network is unchanged if the units are positively homogeneous, as ReLU is:
    :math:`W_{\text{in}}[i, :] \to \alpha_i W_{\text{in}}[i, :]`, :math:`b[i] \to \alpha_i b[i]`, :math:`W_{\text{out}}[:, i] \to W_{\text{out}}[:, i] / \alpha_i`.
    With powers of two it is unchanged bit by bit.

    Parameters
    ----------
    incoming
        Names of the groups whose outputs are the units: a weight and its bias.
    outgoing
        Names of the weights whose inputs are the units. If there are several inputs per unit, as after
        flattening the positions of a channel, those of one unit stand together.
    """

    incoming: tuple[str, ...]
    outgoing: tuple[str, ...]

    def apply(self, oracle: CurvatureOracle, parameters: ParameterVector, factors: HostArray) -> ParameterVector:
        """The rescaled parameters; those given are not touched.

        Raises
        ------
        ValueError
            If a factor is not positive, or their number does not fit the groups.
        """
        if not (np.isfinite(factors).all() and (factors > 0).all()):
            msg = "every factor of a unit must be positive and finite: a negative one changes the function"
            raise ValueError(msg)
        groups = {group.name: group for group in oracle.groups}
        scale = {name: np.ones(group.shape) for name, group in groups.items()}
        for name in self.incoming:
            scale[name] = _along(groups[name], groups[name].output_axes, factors)
        for name in self.outgoing:
            scale[name] = _along(groups[name], groups[name].input_axes, 1 / factors)
        return parameters * oracle.from_numpy(scale)


def chain_rescalings(groups: Sequence[ParameterGroup]) -> list[UnitRescaling]:
    """The rescalings of a plain chain of layers: each weight's outputs are the next weight's inputs."""
    weights = [group for group in groups if group.is_weight]
    biases = {group.owner: group.name for group in groups if group.role == "bias"}
    return [
        UnitRescaling((this.name, biases[this.name]) if this.name in biases else (this.name,), (following.name,))
        for this, following in pairwise(weights)
    ]


def unit_count(groups: Sequence[ParameterGroup], rescaling: UnitRescaling) -> int:
    """Number of units that a rescaling moves."""
    group = next(g for g in groups if g.name == rescaling.incoming[0])
    count = int(np.prod([group.shape[axis] for axis in group.output_axes]))
    return count * group.channel_groups if group.divided_axes == "output" else count


def _along(group: ParameterGroup, axes: tuple[int, ...], factors: HostArray) -> HostArray:
    """The factors along the given axes, constant along all others."""
    units = int(np.prod([group.shape[axis] for axis in axes]))
    repeats, rest = divmod(units, len(factors))
    if rest or not repeats:
        msg = f"{len(factors)} factors do not fit the {units} units of {group.name!r}"
        raise ValueError(msg)
    shape = [size if axis in axes else 1 for axis, size in enumerate(group.shape)]
    return np.broadcast_to(np.repeat(factors, repeats).reshape(shape), group.shape)
