r"""A test of second derivatives that needs no reference: a Hessian is symmetric.

Frameworks have operations whose second derivative is silently wrong, such as TensorFlow's bilinear resizing.
The test is on :math:`\phi = \sum_n c_n \cdot z_n`, whose derivatives do not cancel at a minimum of the loss.
"""

from __future__ import annotations

from math import fsum, sqrt

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.adapters.data import Batch
from invariant_sharpness.errors import ModelError
from invariant_sharpness_keras.engines import Arrays, Engine

_EXAMPLES = 32
_TOLERANCE = 0.02


def check_symmetry(engine: Engine, values: Arrays, batch: Batch) -> None:
    r"""Raise unless :math:`u^T H v = v^T H u` for two random vectors.

    Either side is about :math:`|u| |Hv| / \sqrt P`, so that is what the difference is compared with.

    Raises
    ------
    ModelError
        If the second derivatives of the engine contradict one another.
    """
    inputs = batch.take(0, _EXAMPLES).inputs
    outputs = engine.outputs(values, inputs)
    cotangents = random.cotangents(0, outputs.shape).astype(outputs.dtype)
    u, v = (_direction(values, index) for index in (0, 1))
    _, along_u = engine.output_product(values, u, inputs, cotangents)
    _, along_v = engine.output_product(values, v, inputs, cotangents)
    size = sum(value.size for value in values)
    scale = (sqrt(_dot(u, u) * _dot(along_v, along_v)) + sqrt(_dot(v, v) * _dot(along_u, along_u))) / sqrt(size)
    defect = abs(_dot(u, along_v) - _dot(v, along_u))
    if defect > _TOLERANCE * scale:
        msg = (
            f"the second derivatives that {engine.name} computes for this model contradict one another (the Hessian is "
            f"not symmetric, by {defect / scale:.0%}): an operation in it has a wrong derivative. Known ones are bilinear "
            f"resizing in TensorFlow and custom gradients; replace the operation, or run Keras on another backend"
        )
        raise ModelError(msg)


def _direction(values: Arrays, index: int) -> Arrays:
    return [
        random.uniform_values(0, stream, index, value.size).reshape(value.shape).astype(value.dtype)
        for stream, value in enumerate(values)
    ]


def _dot(a: Arrays, b: Arrays) -> float:
    return fsum(float(np.sum(x.astype(np.float64) * y)) for x, y in zip(a, b, strict=True))
