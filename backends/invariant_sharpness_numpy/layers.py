"""Affine layers, and the names under which their arrays are parameter groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from invariant_sharpness.protocol import ParameterGroup

Array = npt.NDArray[np.float64]


class Layer(NamedTuple):
    """The map ``a -> W a + b``, or a direction or derivative in its two arrays.

    Parameters
    ----------
    weight
        Matrix ``W`` of shape (outputs, inputs).
    bias
        Vector ``b``; zeros in a network without biases.
    """

    weight: Array
    bias: Array


def weight_name(index: int) -> str:
    """Name of the weight of layer number ``index``, counted from 0."""
    return f"layers.{index}.weight"


def bias_name(index: int) -> str:
    """Name of the bias of layer number ``index``."""
    return f"layers.{index}.bias"


def layer_groups(layers: Sequence[Layer], *, biases: bool) -> tuple[ParameterGroup, ...]:
    """The parameter groups of the layers in their order, each weight followed by its bias."""
    groups = []
    for index, (W, b) in enumerate(layers):
        groups.append(ParameterGroup(weight_name(index), W.shape, "matrix", output_axes=(0,), input_axes=(1,)))
        if biases:
            groups.append(ParameterGroup(bias_name(index), b.shape, "bias", output_axes=(0,), owner=weight_name(index)))
    return tuple(groups)


def to_arrays(layers: Iterable[Layer]) -> dict[str, Array]:
    """All arrays of the layers by name."""
    arrays = {}
    for index, (W, b) in enumerate(layers):
        arrays[weight_name(index)], arrays[bias_name(index)] = W, b
    return arrays


def from_arrays(arrays: Mapping[str, Array], depth: int) -> list[Layer]:
    """The layers that these arrays make; a missing bias is zero."""
    weights = [arrays[weight_name(index)] for index in range(depth)]
    return [Layer(W, arrays.get(bias_name(index), np.zeros(len(W)))) for index, W in enumerate(weights)]
