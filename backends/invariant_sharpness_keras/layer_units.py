"""Where the output units of a layer of Keras are among the axes of its outputs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

Tensor = Any


class UnitAxes:
    """The axes of a layer's affine outputs along which its variables differ; the others are the examples, the first one, and positions.

    Parameters
    ----------
    layer
        A layer that has a rule.
    rank
        The number of axes of its outputs.
    """

    def __init__(self, layer: keras.Layer, rank: int) -> None:
        units = _axes(layer, rank)
        self._order = [*(axis for axis in range(rank) if axis not in units), *units]
        self._units = units

    def by_unit(self, outputs: Tensor) -> Tensor:
        """Return the outputs in the shape (examples, positions, output units)."""
        width = int(np.prod([outputs.shape[axis] for axis in self._units]))
        return ops.reshape(ops.transpose(outputs, self._order), (ops.shape(outputs)[0], -1, width))

    def in_layout(self, units: Tensor, outputs: Tensor) -> Tensor:
        """Undo ``by_unit``: bring them into the layout of these outputs."""
        shape = ops.shape(outputs)
        ordered = ops.reshape(units, [shape[axis] for axis in self._order])
        return ops.transpose(ordered, [self._order.index(axis) for axis in range(len(self._order))])


def _axes(layer: keras.Layer, rank: int) -> list[int]:
    """Those of the kernel, of a product by equation; those of the gain, of a normalization; and the last one elsewhere."""
    if isinstance(layer, layers.EinsumDense):
        operands, outputs = layer.equation.replace(" ", "").split("->")
        _, kernel = operands.split(",")
        return [axis for axis, letter in enumerate(outputs) if letter in kernel]
    axes = getattr(layer, "axis", -1)
    return [axis % rank for axis in (axes if isinstance(axes, (list, tuple)) else [axes])]
