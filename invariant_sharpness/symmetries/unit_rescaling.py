"""Rescaling of hidden units, equations (15) and (16) of Tsuzuku, Sato and Sugiyama (2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import Stream
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup, machine_epsilon
from invariant_sharpness.symmetries.scaling_variables import any_logarithms, whole_logarithms

HostArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class UnitRescaling:
    r"""Multiply what goes into each hidden unit by :math:`\alpha_i > 0` and divide what goes out of it by the same.

    .. math::
        W_{\text{in}}[i, :] \to \alpha_i W_{\text{in}}[i, :], \qquad b[i] \to \alpha_i b[i], \qquad
        W_{\text{out}}[:, i] \to W_{\text{out}}[:, i] / \alpha_i .

    The function of the network stays if the units are positively homogeneous, as ReLU is; with powers of two it stays bit by bit.
    Metrics that are invariant to ``"row_column"`` do not see it.

    Parameters
    ----------
    incoming
        Names of the groups whose outputs are the units: a weight and its bias.
    outgoing
        Names of the weights whose inputs are the units. If there are several inputs per unit, as after
        flattening the positions of a channel, those of one unit stand together.
    oracle
        The oracle of the network, which places the factors where its parameters are. It may be left out:
        :func:`invariant_sharpness.certify` puts in its own.

    Notes
    -----
    Source: (15) and (16) of Tsuzuku, Sato and Sugiyama (2019); Neyshabur, Salakhutdinov and Srebro (2015).

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> network = ReluNetwork([np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]])], [np.zeros(2), np.zeros(1)])
    >>> oracle = NetworkOracle(network, np.array([[1.0]]), np.array([[0.0]]), loss="mse")
    >>> hidden = UnitRescaling(("layers.0.weight", "layers.0.bias"), ("layers.1.weight",), oracle)
    >>> rescaled = hidden.apply(oracle, oracle.parameters, np.array([1.0, 2.0]))
    >>> rescaled["layers.0.weight"].ravel().tolist(), rescaled["layers.1.weight"].ravel().tolist()
    ([1.0, 4.0], [3.0, 2.0])
    >>> oracle.loss(rescaled) == oracle.loss(oracle.parameters)
    True
    """

    incoming: tuple[str, ...]
    outgoing: tuple[str, ...]
    oracle: CurvatureOracle | None = field(default=None, compare=False, repr=False)
    kind = "row_column"

    def __str__(self) -> str:
        return f"units of {', '.join(self.incoming)} up, {', '.join(self.outgoing)} down"

    def on(self, oracle: CurvatureOracle, /) -> UnitRescaling:
        """Return the same rescaling of the network of this oracle."""
        return replace(self, oracle=oracle)

    def apply(self, oracle: CurvatureOracle, parameters: ParameterVector, factors: HostArray) -> ParameterVector:
        """Return the rescaled parameters; those given are not touched.

        Raises
        ------
        ArgumentError
            If a factor is not positive, or their number does not fit the groups.
        """
        if not (np.isfinite(factors).all() and (factors > 0).all()):
            msg = "every factor of a unit must be positive and finite: a negative one changes the function"
            raise ArgumentError(msg)
        groups = {group.name: group for group in oracle.groups}
        scale = {name: np.ones(group.shape) for name, group in groups.items()}
        for name in self.incoming:
            scale[name] = _along(groups[name], groups[name].output_axes, factors)
        for name in self.outgoing:
            scale[name] = _along(groups[name], groups[name].input_axes, 1 / factors)
        return parameters * oracle.from_numpy(scale)

    def transformations(self, seed: int, /) -> Mapping[str, UnitFactors]:
        """Return factors that are powers of two, any, and extreme ones, as large as the precision of the parameters allows for.

        Raises
        ------
        ArgumentError
            If the rescaling has no oracle.
        """
        if self.oracle is None:
            msg = f"the rescaling of {', '.join(self.incoming)} has no oracle: take rescaling.on(oracle)"
            raise ArgumentError(msg)
        count, extreme = unit_count(self.oracle.groups, self), machine_epsilon(self.oracle) ** -0.25
        mild, strong = (prng.uniform_values(seed, Stream.UNIT_FACTORS, index, count) for index in range(2))
        return {
            "powers of two": UnitFactors(self, self.oracle, np.exp2(whole_logarithms(mild, 16.0))),
            "any factors": UnitFactors(self, self.oracle, np.exp2(any_logarithms(mild, 16.0))),
            f"factors up to {extreme:.0f}": UnitFactors(self, self.oracle, np.exp2(any_logarithms(strong, extreme))),
        }


@dataclass(frozen=True, slots=True, eq=False)
class UnitFactors:
    """A transformation: the units of a layer, times given factors.

    Parameters
    ----------
    rescaling
        The units.
    oracle
        The oracle of the network.
    factors
        One positive number for each unit.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> network = ReluNetwork([np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]])])
    >>> oracle = NetworkOracle(network, np.array([[1.0]]), np.array([[0.0]]), loss="mse")
    >>> hidden = UnitRescaling(("layers.0.weight",), ("layers.1.weight",))
    >>> UnitFactors(hidden, oracle, np.array([1.0, 2.0])).apply(oracle.parameters)["layers.0.weight"].ravel().tolist()
    [1.0, 4.0]
    """

    rescaling: UnitRescaling
    oracle: CurvatureOracle
    factors: HostArray

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        """Return the rescaled parameters; those given are not touched."""
        return self.rescaling.apply(self.oracle, parameters, self.factors)


def chain_rescalings(groups: Sequence[ParameterGroup]) -> list[UnitRescaling]:
    """List the rescalings of a plain chain of layers, where the outputs of each weight are the inputs of the next.

    Parameters
    ----------
    groups
        The parameter groups of the network, in the order of its layers.

    Returns
    -------
    list of UnitRescaling
        One for each hidden layer.

    Examples
    --------
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> oracle = NetworkOracle(ReluNetwork.initialize((4, 5, 3), seed=0), [[0.0] * 4], [0])
    >>> for rescaling in chain_rescalings(oracle.groups):
    ...     print(rescaling, unit_count(oracle.groups, rescaling))
    units of layers.0.weight, layers.0.bias up, layers.1.weight down 5
    """
    weights = [group for group in groups if group.is_weight]
    biases = {group.owner: group.name for group in groups if group.role == "bias"}
    return [
        UnitRescaling((this.name, biases[this.name]) if this.name in biases else (this.name,), (following.name,))
        for this, following in pairwise(weights)
    ]


def unit_count(groups: Sequence[ParameterGroup], rescaling: UnitRescaling) -> int:
    """Count the units that a rescaling acts on: the factors that :meth:`UnitRescaling.apply` takes.

    Parameters
    ----------
    groups
        The parameter groups of the network.
    rescaling
        Which units.

    Returns
    -------
    int
        The number of output units of the first incoming group.

    Examples
    --------
    >>> from invariant_sharpness import ParameterGroup
    >>> weight = ParameterGroup("first", (5, 4), "matrix", output_axes=(0,), input_axes=(1,))
    >>> unit_count([weight], UnitRescaling(("first",), ("second",)))
    5
    """
    group = next(g for g in groups if g.name == rescaling.incoming[0])
    count = int(np.prod([group.shape[axis] for axis in group.output_axes]))
    return count * group.channel_groups if group.divided_axes == "output" else count


def _along(group: ParameterGroup, axes: tuple[int, ...], factors: HostArray) -> HostArray:
    """Repeat the factors along the given axes; they are constant along all others."""
    units = int(np.prod([group.shape[axis] for axis in axes]))
    repeats, rest = divmod(units, len(factors))
    if rest or not repeats:
        msg = f"{len(factors)} factors do not fit the {units} units of {group.name!r}"
        raise ArgumentError(msg)
    shape = [size if axis in axes else 1 for axis, size in enumerate(group.shape)]
    return np.broadcast_to(np.repeat(factors, repeats).reshape(shape), group.shape)
