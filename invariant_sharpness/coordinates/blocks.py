"""Parameters as matrices of rows (output units) and columns (input units).

Two entries that share a row and a column share a scale. A convolution kernel is summed over its
positions, since a filter has one scale; a grouped one falls into independent blocks, one per channel
group, because no row of one group meets a column of another.
"""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt
from scipy.linalg import block_diag

from invariant_sharpness.protocol import ParameterGroup

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
