"""The patches of its inputs that a convolution of Keras multiplies its kernel with."""

from __future__ import annotations

from itertools import product
from typing import Any

from keras import ops

Tensor = Any


def grouped_patches(layer: Any, inputs: Tensor, outputs: Tensor, groups: int) -> list[Tensor]:
    """Patches of shape ``(n, groups, channels of a group, positions)``, one for each offset, in the order of the kernel.

    They are cut from inputs with the channels first, so that neighbors in a row of positions are copied together.

    Parameters
    ----------
    layer
        A convolution in the layout with channels last.
    inputs, outputs
        Of the layer, the outputs for their positions alone.
    groups
        Number of groups of channels.
    """
    examples, *sides, _ = ops.shape(outputs)
    margins = _padding(layer, ops.shape(inputs)[1:-1], sides)
    padded = ops.pad(ops.moveaxis(inputs, -1, 1), [(0, 0), (0, 0), *margins])
    shifted = [_shifted(layer, padded, offset, sides) for offset in product(*map(range, layer.kernel_size))]
    channels = inputs.shape[-1] // groups
    return [ops.reshape(part, (examples, groups, channels, -1)) for part in shifted]


def _shifted(layer: Any, padded: Tensor, offset: tuple[int, ...], sides: list[Any]) -> Tensor:
    """What one entry of the kernel is multiplied with, at every position."""
    along = zip(offset, layer.dilation_rate, layer.strides, sides, strict=True)
    starts = [(at * dilation, stride, side) for at, dilation, stride, side in along]
    cuts = (slice(start, start + (side - 1) * stride + 1, stride) for start, stride, side in starts)
    return padded[(slice(None), slice(None), *cuts)]


def _padding(layer: Any, inputs: Any, outputs: list[Any]) -> list[tuple[Any, Any]]:
    """Zeros before and after each axis of positions, as TensorFlow places them, and Keras on every engine."""
    spans = [(size - 1) * rate + 1 for size, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    if layer.padding == "causal":
        return [(span - 1, 0) for span in spans]
    if layer.padding == "valid":
        return [(0, 0) for _ in spans]
    along = zip(spans, layer.strides, inputs, outputs, strict=True)
    missing = [max((after - 1) * stride + span - before, 0) for span, stride, before, after in along]
    return [(total // 2, total - total // 2) for total in missing]
