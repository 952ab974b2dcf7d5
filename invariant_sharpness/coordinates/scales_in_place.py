"""The balanced scale where the parameters are: in closed form for layers without zeros, whose logarithms have plain means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness.parameters.matrices import LayerMatrix, weights_with_biases
from invariant_sharpness.parameters.vector import ParameterVector, read_numbers
from invariant_sharpness.protocol import CurvatureOracle

Array = Any
Arrays = dict[str, Array]


def magnitudes_in_place(parameters: ParameterVector) -> Arrays:
    """Return the magnitude of each parameter; a zero takes the root mean square of its group, or 1 where this is zero, too."""
    xp = parameters.xp

    def magnitude(array: Array) -> Array:
        size = xp.sqrt(xp.mean(array**2))
        return xp.where(array == 0, xp.where(size > 0, size, xp.ones_like(size)), xp.abs(array))

    return {name: magnitude(array) for name, array in parameters.arrays.items()}


def balanced_layers(oracle: CurvatureOracle, parameters: ParameterVector) -> tuple[Arrays, list[LayerMatrix]]:
    """Return the scales of the layers that have a closed form, and the other layers. The host reads once, for each device, whether there are zeros."""
    xp, layers = oracle.xp, weights_with_biases(oracle.groups)
    zeros = dict(
        zip(parameters.arrays, read_numbers(xp, [xp.sum(a == 0) for a in parameters.arrays.values()]), strict=True)
    )
    simple = [layer for layer in layers if not any(zeros[name] for name in layer.names) and _is_one_matrix(layer)]
    scales: Arrays = {}
    for layer in simple:
        scales |= _balanced(xp, layer, parameters.arrays)
    return scales, [layer for layer in layers if layer not in simple]


def _is_one_matrix(layer: LayerMatrix) -> bool:
    """A grouped kernel with a bias has zeros of its own, and an empty one has no means."""
    return layer.weight.size > 0 and (layer.bias is None or layer.weight.channel_groups == 1)


def _balanced(xp: Any, layer: LayerMatrix, arrays: Mapping[str, Array]) -> Arrays:
    """Fit a product of row and column factors: two-way means of logarithms."""
    weight = arrays[layer.weight.name]
    wide = _widest(xp, weight)
    cells = _channel_matrices(xp, layer.weight, xp.astype(weight, wide) ** 2)
    if layer.bias is not None:
        column = xp.reshape(xp.astype(arrays[layer.bias.name], wide) ** 2, (1, -1, 1))
        cells = xp.concat([cells, column], axis=2)
    logarithms = xp.log(cells) / 2
    rows = xp.mean(logarithms, axis=2, keepdims=True)
    columns = xp.mean(logarithms - rows, axis=1, keepdims=True)
    if layer.bias is None:
        return {layer.weight.name: _in_layout(xp, layer.weight, xp.exp(rows + columns), weight.dtype)}
    bias = arrays[layer.bias.name]
    return {
        layer.weight.name: _in_layout(xp, layer.weight, xp.exp(rows + columns[:, :, :-1]), weight.dtype),
        layer.bias.name: xp.astype(xp.reshape(xp.exp(rows + columns[:, :, -1:]), layer.bias.shape), bias.dtype),
    }


def _widest(xp: Any, array: Array) -> Any:
    kinds = xp.__array_namespace_info__().dtypes(device=array.device, kind="real floating")
    return kinds.get("float64", array.dtype)


def _channel_matrices(xp: Any, group: ParameterGroup, values: Array) -> Array:
    """Sum over kernel positions: shape (channel groups, rows, columns), as :func:`~invariant_sharpness.parameters.matrices.channel_matrices` does."""
    order, (outputs, inputs), g = _order(group), _sizes(group), group.channel_groups
    cells = xp.sum(xp.reshape(xp.permute_dims(values, order), (outputs, inputs, -1)), axis=2)
    if group.divided_axes == "input":
        return xp.reshape(cells, (g, outputs // g, inputs))
    return xp.permute_dims(xp.reshape(cells, (outputs, g, inputs // g)), (1, 0, 2))


def _in_layout(xp: Any, group: ParameterGroup, matrices: Array, dtype: Any) -> Array:
    """Give each parameter the entry of its cell, in C order."""
    order, (outputs, inputs) = _order(group), _sizes(group)
    if group.divided_axes != "input":
        matrices = xp.permute_dims(matrices, (1, 0, 2))
    canonical = tuple(group.shape[axis] for axis in order)
    cells = xp.broadcast_to(
        xp.reshape(matrices, (outputs, inputs, 1)), (outputs, inputs, group.size // (outputs * inputs))
    )
    moved = xp.permute_dims(xp.reshape(cells, canonical), tuple(np.argsort(order).tolist()))
    return xp.reshape(xp.reshape(xp.astype(moved, dtype), (-1,)), group.shape)


def _order(group: ParameterGroup) -> tuple[int, ...]:
    return (*group.output_axes, *group.input_axes, *group.kernel_axes)


def _sizes(group: ParameterGroup) -> tuple[int, int]:
    """Count output units and input units."""
    outputs, inputs = (int(np.prod([group.shape[a] for a in axes])) for axes in (group.output_axes, group.input_axes))
    return outputs, inputs
