"""Dense derivatives of a ReLU network's loss that nothing in the library has a part in.

The derivative of an analytic function is ``Im f(x + ih) / h``, exactly, for tiny h (Squire and Trapp 1998): no
difference is taken. Second derivatives are fourth-order differences of these. Parameters are one flat array.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

Array = Any
ExampleLoss = Callable[[Array, Array], Array]
"""``(outputs (m, n, K), targets) -> losses (m, n)``, for m points in parameter space at once."""

TINY = 1e-100
STEP = 1e-4


def outputs(sizes: tuple[int, ...], theta: Array, x: Array, *, biases: bool) -> Array:
    """Outputs (m, n, K) of the network at the points ``theta`` (m, P)."""
    a, position = np.broadcast_to(x, (len(theta), *x.shape)), 0
    for layer, (inputs, units) in enumerate(pairwise(sizes)):
        W = theta[:, position : position + units * inputs].reshape(-1, units, inputs)
        z = np.einsum("moi,mni->mno", W, a)
        position += units * inputs
        if biases:
            z = z + theta[:, None, position : position + units]
            position += units
        a = z if layer == len(sizes) - 2 else z * (z.real > 0)
    return a


def cross_entropy(z: Array, y: Array) -> Array:
    top = z.real.max(axis=-1, keepdims=True)
    return np.log(np.exp(z - top).sum(axis=-1)) + top[..., 0] - z[:, np.arange(len(y)), y]


def normalized_cross_entropy(z: Array, y: Array) -> Array:
    """Equations (20)-(22), written down as they are printed."""
    mean = z.sum(axis=-1, keepdims=True) / z.shape[-1]
    return cross_entropy(z / np.sqrt(((z - mean) ** 2).sum(axis=-1, keepdims=True) / z.shape[-1]), y)


def squared_error(z: Array, y: Array) -> Array:
    return ((z - y) ** 2).sum(axis=-1) / z.shape[-1]


def derivatives(function: Callable[[Array], Array], theta: Array) -> Array:
    """The gradient of every component of ``function`` (m, P) -> (m, ...), at the points ``theta``: shape (m, P, ...)."""
    points, size = theta.shape
    shifted = theta[:, None, :] + 1j * TINY * np.eye(size)
    values = function(shifted.reshape(points * size, size)).imag / TINY
    return values.reshape(points, size, *values.shape[1:])


def gradient(function: Callable[[Array], Array], theta: Array) -> Array:
    """Gradient of a scalar function (m, P) -> (m,) at ``theta`` (P,)."""
    return derivatives(function, theta[None])[0]


def hessian(function: Callable[[Array], Array], theta: Array) -> Array:
    """Hessian of a scalar function (m, P) -> (m,) at ``theta`` (P,)."""
    stencil = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}
    rows = []
    for direction in np.eye(len(theta)):
        slopes = derivatives(function, np.stack([theta + k * STEP * direction for k in stencil]))
        rows.append(np.array(list(stencil.values())) @ slopes / STEP)
    return np.stack(rows)
