"""A weight as a matrix with one row for each output, whatever its framework's layout."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from invariant_sharpness.protocol import ParameterGroup

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
