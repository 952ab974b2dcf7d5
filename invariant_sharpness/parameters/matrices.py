"""Parameters as matrices of rows (output units) and columns (input units).

Two entries that share a row and a column share a scale. A convolution kernel is summed over its
positions, since a filter has one scale; a grouped one falls into independent blocks, one per channel
group, because no row of one group meets a column of another.

Which parameters form one matrix: a weight, or the gain of a norm, with the bias it owns.

A weight as a matrix with one row for each output, whatever its framework's layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
from scipy.linalg import block_diag

from invariant_sharpness.parameters.groups import HostArrays, ParameterGroup

HostArray = npt.NDArray[np.float64]


def to_blocks(group: ParameterGroup, values: HostArray) -> HostArray:
    """Sum ``values`` over the kernel positions: shape (channel groups, rows, columns) of each group."""
    g = group.channel_groups
    order = (*group.output_axes, *group.input_axes, *group.kernel_axes)
    outputs, inputs = _sizes(group)
    cells = np.transpose(values, order).reshape(outputs, inputs, -1).sum(axis=2)
    if group.divided_axes == "input":
        return cells.reshape(g, outputs // g, inputs)
    return cells.reshape(outputs, g, inputs // g).transpose(1, 0, 2)


def from_blocks(group: ParameterGroup, blocks: HostArray) -> HostArray:
    """The entry of ``blocks`` that each parameter belongs to, in the parameter's shape."""
    outputs, inputs = _sizes(group)
    if group.divided_axes == "output":
        blocks = blocks.transpose(1, 0, 2)
    order = (*group.output_axes, *group.input_axes, *group.kernel_axes)
    shape = [group.shape[axis] for axis in (*group.output_axes, *group.input_axes)] + [1] * len(group.kernel_axes)
    cells = np.transpose(blocks.reshape(outputs, inputs).reshape(shape), np.argsort(order))
    return np.broadcast_to(cells, group.shape)


def append_bias(blocks: HostArray, bias: HostArray) -> HostArray:
    """The matrix ``[W | b]``: the bias is the weight of one more input, which all rows share.

    A grouped kernel becomes one matrix with structural zeros, since the bias column ties its blocks.
    """
    matrix = block_diag(*blocks)
    return np.concatenate([matrix, bias.reshape(-1, 1)], axis=1)[None]


def split_bias(group: ParameterGroup, blocks: HostArray) -> tuple[HostArray, HostArray]:
    """Undo :func:`append_bias`."""
    g, matrix = group.channel_groups, blocks[0]
    rows, columns = matrix.shape[0] // g, (matrix.shape[1] - 1) // g
    parts = [matrix[i * rows : (i + 1) * rows, i * columns : (i + 1) * columns] for i in range(g)]
    return np.stack(parts), matrix[:, -1]


def _sizes(group: ParameterGroup) -> tuple[int, int]:
    """Sizes of the output side and of the input side, as the parameter stores them."""
    return (
        prod(group.shape[axis] for axis in group.output_axes),
        prod(group.shape[axis] for axis in group.input_axes),
    )


@dataclass(frozen=True, slots=True)
class LayerMatrix:
    """The matrix ``[W | b]`` of one layer, or ``W`` alone."""

    weight: ParameterGroup
    bias: ParameterGroup | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups in the family."""
        return (self.weight.name,) if self.bias is None else (self.weight.name, self.bias.name)

    def blocks(self, arrays: HostArrays) -> HostArray:
        """The family's entries as matrices, of shape (blocks, rows, columns)."""
        weight = to_blocks(self.weight, arrays[self.weight.name])
        return weight if self.bias is None else append_bias(weight, arrays[self.bias.name])

    def arrays(self, blocks: HostArray) -> dict[str, HostArray]:
        """The entry of ``blocks`` that each parameter belongs to."""
        if self.bias is None:
            return {self.weight.name: from_blocks(self.weight, blocks)}
        weight, bias = split_bias(self.weight, blocks)
        return {
            self.weight.name: from_blocks(self.weight, weight),
            self.bias.name: bias.reshape(self.bias.shape),
        }


def weights_alone(groups: Sequence[ParameterGroup]) -> list[LayerMatrix]:
    """Every weight without its bias."""
    return [LayerMatrix(group) for group in groups if group.is_weight]


def weights_with_biases(groups: Sequence[ParameterGroup]) -> list[LayerMatrix]:
    """Every weight, and every gain of a norm, with its bias."""
    biases = {group.owner: group for group in groups if group.role == "bias" and group.owner is not None}
    return [LayerMatrix(g, biases.get(g.name)) for g in groups if g.is_weight or g.role == "norm"]


def others(groups: Sequence[ParameterGroup], families: Sequence[LayerMatrix]) -> list[ParameterGroup]:
    """The groups in no family."""
    taken = {name for family in families for name in family.names}
    return [group for group in groups if group.name not in taken]


def root_mean_square(values: HostArray) -> float:
    """Typical size of an entry; 1 for an array of zeros, which has no scale."""
    size = float(np.sqrt(np.mean(values**2))) if values.size else 0.0
    return size if size > 0 else 1.0


Matrix = npt.NDArray[np.float64]


def rows_first(group: ParameterGroup, values: Matrix) -> Matrix:
    """The matrix of a weight; kernel positions and inputs are its columns."""
    rows = int(np.prod([group.shape[axis] for axis in group.output_axes]))
    return values.transpose(_order(group)).reshape(rows, -1)


def in_layout(group: ParameterGroup, matrix: Matrix) -> Matrix:
    """The weight with this matrix: what undoes :func:`rows_first`."""
    axes = _order(group)
    return matrix.reshape([group.shape[axis] for axis in axes]).transpose(np.argsort(axes))


def _order(group: ParameterGroup) -> list[int]:
    return [*group.output_axes, *(axis for axis in range(len(group.shape)) if axis not in group.output_axes)]
