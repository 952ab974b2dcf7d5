"""Any invertible matrix between two factors of an attention head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup
from invariant_sharpness.symmetries.units import HostArray

_STREAM = 2**40
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
        Of the network.
    mixed
        Names of the groups whose outputs A mixes: the weight of queries or values, and its bias.
    undone
        Names of the groups that undo it: those of the keys, or the weight of the output.
    side
        ``"output"`` if ``undone`` meets the head with its outputs (keys), ``"input"`` if with its inputs (the output projection).
    heads
        Number of heads; each gets a matrix of its own.
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

    def moves(self, seed: int, /) -> Mapping[str, Mixed]:
        """A matrix near the identity for each head, and one that is far from it."""
        groups = {group.name: group for group in self.oracle.groups}
        width = _size(groups[self.mixed[0]], groups[self.mixed[0]].output_axes)
        if width % self.heads:
            msg = f"{width} outputs of {self.mixed[0]!r} are no {self.heads} heads of one width"
            raise ValueError(msg)
        h = width // self.heads
        draws = prng.uniform_values(seed, _STREAM, 0, self.heads * h * h).reshape(self.heads, h, h)
        return {name: Mixed(self, np.eye(h) + strength * draws / h**0.5) for name, strength in _STRENGTH.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Mixed:
    """A given matrix for each head.

    Parameters
    ----------
    mixing
        Which heads.
    matrices
        Array (heads, h, h) of invertible matrices.
    """

    mixing: HeadMixing
    matrices: HostArray

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        """The mixed parameters; those given are not touched."""
        oracle, inverses = self.mixing.oracle, np.linalg.inv(self.matrices).astype(np.float64).astype(np.float64)
        arrays = oracle.to_numpy(parameters)
        for group in oracle.groups:
            if group.name in self.mixing.mixed:
                arrays[group.name] = _times(self.matrices, group, _outputs(group), arrays[group.name])
            elif group.name in self.mixing.undone:
                axes = _outputs(group) if self.mixing.side == "output" else group.input_axes
                arrays[group.name] = _times(inverses.transpose(0, 2, 1), group, axes, arrays[group.name])
        return oracle.from_numpy(arrays)


def _outputs(group: ParameterGroup) -> tuple[int, ...]:
    """The axes of the head dimensions; a bias has no others."""
    return group.output_axes or tuple(range(len(group.shape)))


def _times(matrices: HostArray, group: ParameterGroup, axes: tuple[int, ...], values: HostArray) -> HostArray:
    """The matrix of each head, times the entries along these axes."""
    heads, h, _ = matrices.shape
    if _size(group, axes) != heads * h:
        msg = f"{group.name!r} has {_size(group, axes)} entries along the head dimensions, but there are {heads} heads of width {h}"
        raise ValueError(msg)
    front = np.moveaxis(values, axes, range(len(axes)))
    mixed = matrices @ front.reshape(heads, h, -1)
    return np.moveaxis(mixed.reshape(front.shape), range(len(axes)), axes)


def _size(group: ParameterGroup, axes: tuple[int, ...]) -> int:
    return prod(group.shape[axis] for axis in axes)
