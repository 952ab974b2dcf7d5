"""The patches of its inputs that a convolution of Keras multiplies its kernel with."""

from __future__ import annotations

from itertools import product
from typing import Any

from keras import ops

Tensor = Any


def grouped_patches(layer: Any, inputs: Tensor, outputs: Tensor, groups: int) -> Tensor:
    """Patches of shape ``(n, groups, positions, offsets and channels of a group)``, in the order of the kernel.

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
    padded = ops.pad(inputs, [(0, 0), *_padding(layer, ops.shape(inputs)[1:-1], sides), (0, 0)])
    shifted = [_shifted(layer, padded, offset, sides) for offset in product(*map(range, layer.kernel_size))]
    channels = inputs.shape[-1] // groups
    rows = ops.stack([ops.reshape(part, (examples, -1, groups, channels)) for part in shifted], axis=3)
    flat = ops.reshape(rows, (examples, -1, groups, len(shifted) * channels))
    return ops.transpose(flat, (0, 2, 1, 3))


def _shifted(layer: Any, padded: Tensor, offset: tuple[int, ...], sides: list[Any]) -> Tensor:
    """What one entry of the kernel is multiplied with, at every position."""
    along = zip(offset, layer.dilation_rate, layer.strides, sides, strict=True)
    starts = [(at * dilation, stride, side) for at, dilation, stride, side in along]
    return padded[
        (slice(None), *(slice(start, start + (side - 1) * stride + 1, stride) for start, stride, side in starts))
    ]


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
