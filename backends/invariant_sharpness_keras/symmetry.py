r"""A test of second derivatives that needs no reference: a Hessian is symmetric.

Frameworks have operations whose second derivative is silently wrong, such as TensorFlow's bilinear resizing.
The test is on the loss :math:`\phi = \sum_n c_n \cdot z_n`, whose derivatives do not cancel at a minimum of the user's loss.
"""

from __future__ import annotations

from math import fsum, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from invariant_sharpness import prng
from invariant_sharpness.adapters import Engine
from invariant_sharpness.adapters.data import take
from invariant_sharpness.errors import ModelError

HostVector = dict[str, npt.NDArray[np.float64]]

_EXAMPLES = 32
_TOLERANCE = 0.02


def weighted_outputs(outputs: Any, cotangents: Any) -> Any:
    r"""Return :math:`c_n \cdot z_n` for every example: a loss that is linear in the outputs."""
    product = outputs * ops.cast(cotangents, outputs.dtype)
    return ops.sum(ops.reshape(product, (product.shape[0], -1)), axis=1)


def weighted_batch(outputs: Any, cotangents: Any) -> Any:
    """Return the same for a batch that is one example."""
    return ops.sum(weighted_outputs(outputs, cotangents))


def check_symmetry(engine: Engine[Any], inputs: Any, outputs: npt.NDArray[np.float64]) -> None:
    r"""Raise unless :math:`u^T H v = v^T H u` for two random vectors.

    Either side is about :math:`|u| |Hv| / \sqrt P`, so that is what the difference is compared with.

    Parameters
    ----------
    engine
        The model with ``weighted_outputs`` for the loss, or ``weighted_batch``.
    inputs, outputs
        Inputs of the first examples, and their outputs.

    Raises
    ------
    ModelError
        If the second derivatives of the engine contradict one another.
    """
    head = outputs[:_EXAMPLES]
    batch = engine.batch((take(inputs, 0, _EXAMPLES), prng.cotangents(0, head.shape)))
    u, v = (_direction(engine, index) for index in (0, 1))
    along = [engine.native(engine.from_numpy(vector)) for vector in (u, v)]
    with engine.at(engine.native(engine.parameters())) as point:
        # One after the other: a program of two products takes longer to compile.
        products = [point.hessian_products([vector], batch).arrays[0] for vector in along]
        along_u, along_v = (engine.to_numpy(engine.portable(product)) for product in products)
        if not (_dot(along_u, along_u) or _dot(along_v, along_v)):
            point.gradient(
                batch
            )  # of a model that is linear in its parameters, the products do without its derivatives
    size = sum(array.size for array in u.values())
    scale = (sqrt(_dot(u, u) * _dot(along_v, along_v)) + sqrt(_dot(v, v) * _dot(along_u, along_u))) / sqrt(size)
    defect = abs(_dot(u, along_v) - _dot(v, along_u))
    if defect > _TOLERANCE * scale:
        msg = (
            f"the second derivatives that {engine.name} computes for this model contradict one another (the Hessian is "
            f"not symmetric, by {defect / scale:.0%}): an operation in it has a wrong derivative. Known ones are bilinear "
            f"resizing in TensorFlow and custom gradients; replace the operation, or run Keras on another backend"
        )
        raise ModelError(msg)


def _direction(engine: Engine[Any], index: int) -> HostVector:
    return {
        group.name: prng.uniform_values(0, stream, index, group.size).reshape(group.shape)
        for stream, group in enumerate(engine.groups)
    }


def _dot(a: HostVector, b: HostVector) -> float:
    return fsum(float(np.sum(x * b[name])) for name, x in a.items())
