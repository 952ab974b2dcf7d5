"""Which rules of layers give what the general path gives, up to what rounding does to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

Array = npt.NDArray[Any]

_AMPLIFIED, _LARGEST_TOLERANCE = 8.0, 0.05
"""Rounding happens at every layer, not at the inputs alone; what a wrong rule gives is wrong by more than a twentieth."""


def disagreements(
    found: Mapping[int, Array], expected: Sequence[Array], moved: Callable[[], Sequence[Array]]
) -> set[int]:
    """Return the positions of the parameters whose squares are not the expected ones.

    Parameters
    ----------
    found
        What the rules give.
    expected
        What the general path gives.
    moved
        What it gives for :func:`nudged` inputs: asked for where something disagrees, as a deep network can make much of a rounding error.
    """
    largest = max(float(np.abs(array).max()) for array in expected)
    wrong = {i for i, array in found.items() if not _agree(array, expected[i], largest, rounding=0.0)}
    if not wrong:
        return wrong
    rounding = [_relative(*pair) for pair in zip(moved(), expected, strict=True)]
    return {i for i in wrong if not _agree(found[i], expected[i], largest, rounding[i])}


def _agree(found: Array, expected: Array, largest: float, rounding: float) -> bool:
    """Whether squares are equal to rounding. Beside the largest of all parameters, those of a zero derivative are rounding alone."""
    eps = float(np.finfo(expected.dtype).eps)
    tolerance = max(eps**0.5, min(_AMPLIFIED * rounding, _LARGEST_TOLERANCE))
    absolute = tolerance * float(np.abs(expected).max()) + eps * largest
    return bool(np.allclose(found, expected, rtol=tolerance, atol=absolute))


def _relative(moved: Array, expected: Array) -> float:
    """How far squares have moved, relative to the largest of them."""
    largest = float(np.abs(expected).max())
    return float(np.abs(moved - expected).max()) / largest if largest > 0 else 0.0


def nudged(inputs: Any) -> Any:
    """The inputs, moved by a rounding error each; whole numbers stay."""
    return keras.tree.map_structure(_nudged, inputs)


def _nudged(array: Any) -> Any:
    dtype = np.dtype(keras.backend.standardize_dtype(array.dtype))
    if dtype.kind != "f":
        return array
    steps = 1 + 2 * np.finfo(dtype).eps * np.cos(np.arange(np.prod(array.shape)))
    return array * ops.convert_to_tensor(steps.reshape(array.shape), dtype=dtype.name)
