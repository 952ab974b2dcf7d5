"""Any invertible matrix between two factors of an attention head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import Stream
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup
from invariant_sharpness.symmetries.scaling_variables import HostArray

_STRENGTH = {"mild mixing": 0.5, "strong mixing": 4.0}


@dataclass(frozen=True, slots=True)
class HeadMixing:
    r"""Mix the dimensions of an attention head by a matrix A, and undo it: :math:`GL(h)`.

    Queries and keys meet in :math:`q \cdot k`, so :math:`W_Q \to A W_Q` with :math:`W_K \to A^{-T} W_K` changes nothing; values and
    output meet in a product of matrices, :math:`W_V \to A W_V` with :math:`W_O \to W_O A^{-1}`. Rescalings are the diagonal A.

    Not a symmetry if something stands between the two, such as rotary embeddings or a normalization of queries and keys.

    Parameters
    ----------
    oracle
        The oracle of the network.
    mixed
        Names of the groups whose outputs A mixes: the weight of queries or values, and its bias.
    undone
        Names of the groups that undo it: those of the keys, or the weight of the output projection.
    side
        ``"output"`` if the dimensions of the head are output units of ``undone`` (keys), ``"input"`` if they are its input units (the output
        projection).
    heads
        The number of heads; each gets a matrix of its own.

    Notes
    -----
    Metrics that are invariant to ``"head"`` do not see it. Source: da Silva, Dangel and Oh (2025).

    Examples
    --------
    Two linear layers are a head of values and output without attention: their product stays.

    >>> import numpy as np
    >>> from invariant_sharpness.protocol import ParameterGroup
    >>> from invariant_sharpness_numpy import FunctionOracle
    >>> groups = [ParameterGroup(name, (2, 2), "matrix", (0,), (1,)) for name in ("value", "out")]
    >>> point = {"value": np.eye(2), "out": np.array([[1.0, 2.0], [3.0, 4.0]])}
    >>> oracle = FunctionOracle(
    ...     point, lambda p: float((p["out"] @ p["value"]).sum()), lambda p: p, lambda p, v: v, tuple(groups)
    ... )
    >>> mixing = HeadMixing(oracle, ("value",), ("out",), side="input")
    >>> mixed = mixing.transformations(0)["mild mixing"].apply(oracle.parameters)
    >>> np.allclose(mixed["out"] @ mixed["value"], point["out"])
    True
    """

    oracle: CurvatureOracle
    mixed: tuple[str, ...]
    undone: tuple[str, ...]
    side: Literal["output", "input"]
    heads: int = 1
    kind = "head"

    def __str__(self) -> str:
        heads = "one head" if self.heads == 1 else f"{self.heads} heads"
        return f"{', '.join(self.mixed)} mixed by a matrix in {heads}, undone in {', '.join(self.undone)}"

    def transformations(self, seed: int, /) -> Mapping[str, Mixing]:
        """Return a matrix near the identity for each head, and one that is far from it.

        Raises
        ------
        ArgumentError
            If the outputs are not so many heads of one width.
        """
        groups = {group.name: group for group in self.oracle.groups}
        width = _size(groups[self.mixed[0]], groups[self.mixed[0]].output_axes)
        if width % self.heads:
            msg = f"{width} outputs of {self.mixed[0]!r} are no {self.heads} heads of one width"
            raise ArgumentError(msg)
        h = width // self.heads
        draws = prng.uniform_values(seed, Stream.HEAD_MIXING, 0, self.heads * h * h).reshape(self.heads, h, h)
        return {name: Mixing(self, np.eye(h) + strength * draws / h**0.5) for name, strength in _STRENGTH.items()}

    moves = transformations


@dataclass(frozen=True, slots=True, eq=False)
class Mixing:
    """A transformation: the dimensions of each head, mixed by a given matrix.

    Parameters
    ----------
    symmetry
        The heads.
    matrices
        The invertible matrices, of shape (heads, h, h).

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> network = ReluNetwork([np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]])])
    >>> oracle = NetworkOracle(network, np.array([[1.0]]), np.array([[0.0]]), loss="mse")
    >>> product = HeadMixing(oracle, ("layers.0.weight",), ("layers.1.weight",), side="input")
    >>> mixed = Mixing(product, np.array([[[0.0, 1.0], [1.0, 0.0]]])).apply(oracle.parameters)
    >>> mixed["layers.0.weight"].ravel().tolist(), mixed["layers.1.weight"].ravel().tolist()
    ([2.0, 1.0], [4.0, 3.0])
    """

    symmetry: HeadMixing
    matrices: HostArray

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        """Return the mixed parameters; those given are not touched."""
        oracle, inverses = self.symmetry.oracle, np.linalg.inv(self.matrices).astype(np.float64)
        arrays = oracle.to_numpy(parameters)
        for group in oracle.groups:
            if group.name in self.symmetry.mixed:
                arrays[group.name] = _times(self.matrices, group, _outputs(group), arrays[group.name])
            elif group.name in self.symmetry.undone:
                axes = _outputs(group) if self.symmetry.side == "output" else group.input_axes
                arrays[group.name] = _times(inverses.transpose(0, 2, 1), group, axes, arrays[group.name])
        return oracle.from_numpy(arrays)


def _outputs(group: ParameterGroup) -> tuple[int, ...]:
    """Return the axes of the head dimensions; a bias has no others."""
    return group.output_axes or tuple(range(len(group.shape)))


def _times(matrices: HostArray, group: ParameterGroup, axes: tuple[int, ...], values: HostArray) -> HostArray:
    """Multiply the entries along these axes by the matrix of their head."""
    heads, h, _ = matrices.shape
    if _size(group, axes) != heads * h:
        msg = f"{group.name!r} has {_size(group, axes)} entries along the head dimensions, but there are {heads} heads of width {h}"
        raise ArgumentError(msg)
    front = np.moveaxis(values, axes, range(len(axes)))
    mixed = matrices @ front.reshape(heads, h, -1)
    return np.moveaxis(mixed.reshape(front.shape), range(len(axes)), axes)


def _size(group: ParameterGroup, axes: tuple[int, ...]) -> int:
    return prod(group.shape[axis] for axis in axes)
