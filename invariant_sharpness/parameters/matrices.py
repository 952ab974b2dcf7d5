"""Parameters as matrices, whose rows are output units and whose columns are input units.

A weight is seen in two ways. Where two entries that share a row and a column share a scale, the kernel positions of a convolution are summed,
since a filter has one scale; a grouped convolution falls into independent matrices, one per channel group, because no row of one group
meets a column of another. With the bias that it owns, a weight forms the layer matrix ``[W b]``.
Where only rows matter, a weight is one matrix with all kernel positions and inputs as its columns.
Both undo the layout of the framework.
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


@dataclass(frozen=True, slots=True)
class LayerMatrix:
    """The matrix ``[W b]`` of one layer, or W alone.

    The bias is the weight of one more input, which all rows share. A grouped kernel with a bias becomes one matrix with structural zeros, since
    the bias column ties its channel groups.

    Parameters
    ----------
    weight
        The weight, or the gain of a norm.
    bias
        The bias that belongs to it, if it counts.
    """

    weight: ParameterGroup
    bias: ParameterGroup | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the groups in the matrix."""
        return (self.weight.name,) if self.bias is None else (self.weight.name, self.bias.name)

    def matrices(self, arrays: HostArrays) -> HostArray:
        """Sum the entries of these arrays over kernel positions: shape (channel groups, rows, columns), with a bias (1, rows, columns)."""
        weight = channel_matrices(self.weight, arrays[self.weight.name])
        return weight if self.bias is None else append_bias(weight, arrays[self.bias.name])

    def arrays(self, matrices: HostArray) -> dict[str, HostArray]:
        """Give each parameter the entry of ``matrices`` that it belongs to."""
        if self.bias is None:
            return {self.weight.name: from_channel_matrices(self.weight, matrices)}
        weight, bias = split_bias(self.weight, matrices)
        return {
            self.weight.name: from_channel_matrices(self.weight, weight),
            self.bias.name: bias.reshape(self.bias.shape),
        }


def weights_alone(groups: Sequence[ParameterGroup]) -> list[LayerMatrix]:
    """List every weight without its bias."""
    return [LayerMatrix(group) for group in groups if group.is_weight]


def weights_with_biases(groups: Sequence[ParameterGroup]) -> list[LayerMatrix]:
    """List every weight, and every gain of a norm, with its bias."""
    biases = {group.owner: group for group in groups if group.role == "bias" and group.owner is not None}
    return [LayerMatrix(g, biases.get(g.name)) for g in groups if g.is_weight or g.role == "norm"]


def others(groups: Sequence[ParameterGroup], layers: Sequence[LayerMatrix]) -> list[ParameterGroup]:
    """List the groups that are in no layer matrix."""
    taken = {name for layer in layers for name in layer.names}
    return [group for group in groups if group.name not in taken]


def channel_matrices(group: ParameterGroup, values: HostArray) -> HostArray:
    """Sum ``values`` over the kernel positions: one matrix per channel group, shape (channel groups, rows, columns)."""
    g = group.channel_groups
    order = (*group.output_axes, *group.input_axes, *group.kernel_axes)
    outputs, inputs = _sizes(group)
    # Outputs x inputs, as the parameter stores them; kernel positions are summed.
    cells = np.ascontiguousarray(np.transpose(values, order)).reshape(outputs, inputs, -1)
    cells = cells.sum(axis=2) if group.kernel_axes else cells[:, :, 0]
    # The axis that counts within a channel group is whole; the other one is cut into channel groups.
    if group.divided_axes == "input":
        return cells.reshape(g, outputs // g, inputs)
    return cells.reshape(outputs, g, inputs // g).transpose(1, 0, 2)


def from_channel_matrices(group: ParameterGroup, matrices: HostArray) -> HostArray:
    """Give each parameter the entry of ``matrices`` that it belongs to, in the parameter's shape."""
    outputs, inputs = _sizes(group)
    # Undo the cut into channel groups.
    if group.divided_axes == "output":
        matrices = matrices.transpose(1, 0, 2)
    # Undo the layout; every kernel position has the entry of its cell.
    order = (*group.output_axes, *group.input_axes, *group.kernel_axes)
    shape = [group.shape[axis] for axis in (*group.output_axes, *group.input_axes)] + [1] * len(group.kernel_axes)
    cells = np.transpose(matrices.reshape(outputs, inputs).reshape(shape), np.argsort(order))
    return np.broadcast_to(cells, group.shape)


def append_bias(matrices: HostArray, bias: HostArray) -> HostArray:
    """Make the matrix ``[W b]``, of shape (1, rows, columns + 1)."""
    matrix = block_diag(*matrices)
    return np.concatenate([matrix, bias.reshape(-1, 1)], axis=1)[None]


def split_bias(group: ParameterGroup, matrices: HostArray) -> tuple[HostArray, HostArray]:
    """Undo :func:`append_bias`."""
    g, matrix = group.channel_groups, matrices[0]
    rows, columns = matrix.shape[0] // g, (matrix.shape[1] - 1) // g
    diagonal = [matrix[i * rows : (i + 1) * rows, i * columns : (i + 1) * columns] for i in range(g)]
    return np.stack(diagonal), matrix[:, -1]


def rows_first(group: ParameterGroup, values: HostArray) -> HostArray:
    """Return the matrix of a weight with one row per output unit; inputs and kernel positions are its columns."""
    rows = int(np.prod([group.shape[axis] for axis in group.output_axes]))
    return values.transpose(_rows_first_order(group)).reshape(rows, -1)


def in_layout(group: ParameterGroup, matrix: HostArray) -> HostArray:
    """Undo :func:`rows_first`."""
    axes = _rows_first_order(group)
    return matrix.reshape([group.shape[axis] for axis in axes]).transpose(np.argsort(axes))


def root_mean_square(values: HostArray) -> float:
    """Return the typical size of an entry; 1 for an array of zeros, which has no scale."""
    size = float(np.sqrt(np.mean(values**2))) if values.size else 0.0
    return size if size > 0 else 1.0


def _sizes(group: ParameterGroup) -> tuple[int, int]:
    """Count output units and input units, as the parameter stores them."""
    return (
        prod(group.shape[axis] for axis in group.output_axes),
        prod(group.shape[axis] for axis in group.input_axes),
    )


def _rows_first_order(group: ParameterGroup) -> list[int]:
    return [*group.output_axes, *(axis for axis in range(len(group.shape)) if axis not in group.output_axes)]
