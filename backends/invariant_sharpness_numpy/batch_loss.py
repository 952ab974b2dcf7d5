r"""The loss summed over one batch, :math:`\sum_n w_n \ell(z_n, y_n)`, and its derivatives in the parameters."""

from __future__ import annotations

from collections.abc import Sequence

import array_api_compat.numpy as xp
import numpy as np

from invariant_sharpness.adapters.data import Batch
from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.losses import ConvexLoss, OutputLoss
from invariant_sharpness_numpy.derivatives import ForwardPass, backward, forward, gradient, squared_gradients
from invariant_sharpness_numpy.layers import Array, Layer
from invariant_sharpness_numpy.tangents import forward_tangents, second_derivative


class BatchLoss:
    """A network's loss on a batch of examples. Every method returns a sum over the examples, not a mean.

    Parameters
    ----------
    layers
        The network.
    batch
        The examples.
    loss
        Of outputs and targets.

    Raises
    ------
    NonFiniteError
        If an output of the network is NaN or infinite.
    """

    def __init__(self, layers: Sequence[Layer], batch: Batch, loss: OutputLoss) -> None:
        self._layers = layers
        self._loss = loss
        self._passed = finite_forward(layers, batch.inputs)
        self._z, self._y = self._passed.outputs, batch.targets
        self._w: Array = loss.weights(xp, self._z, self._y)

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self._z)

    def value(self) -> float:
        r""":math:`\sum_n w_n \ell_n`."""
        return float(np.sum(self._w * self._loss.values(xp, self._z, self._y)))

    def gradient(self) -> list[Layer]:
        r""":math:`\sum_n w_n J_n^T \nabla_z \ell_n`."""
        deltas = backward(self._layers, self._passed.slopes, self._cotangents())
        return gradient(self._passed.activations, deltas)

    def hessian_vector_product(self, directions: Sequence[Layer]) -> list[Layer]:
        r""":math:`\nabla^2 \big(\sum_n w_n \ell_n\big)\, v`, where the cotangents move by :math:`w_n \Lambda_n J_n v`."""
        return second_derivative(self._layers, directions, self._passed, self._cotangents(), self._curved)

    def gauss_newton_vector_product(self, directions: Sequence[Layer]) -> list[Layer]:
        r""":math:`\sum_n w_n J_n^T \Lambda_n J_n v`."""
        _, Jv = forward_tangents(self._layers, directions, self._passed)
        deltas = backward(self._layers, self._passed.slopes, self._curved(Jv))
        return gradient(self._passed.activations, deltas)

    def gauss_newton_diagonal(self) -> list[Layer]:
        r""":math:`\sum_n w_n \sum_r s_{nr} (J_n^T v_{nr})^2`, with :math:`\Lambda_n = \sum_r s_{nr} v_{nr} v_{nr}^T`."""
        s, v = self._loss.hessian_factors(xp, self._z, self._y)
        return squared_gradients(self._layers, self._passed, self._w[:, None] * s, v)

    def sampled_gauss_newton_diagonal(self, loss: ConvexLoss, signs: Array) -> list[Layer]:
        r""":math:`\sum_n w_n (J_n^T R_n \varepsilon_n)^2`, with :math:`\Lambda_n = R_n R_n^T`."""
        vectors = loss.hessian_root_product(xp, self._z, self._y, signs)
        return squared_gradients(self._layers, self._passed, self._w[:, None], vectors[:, :, None])

    def squared_gradients(self) -> list[Layer]:
        r""":math:`\sum_n w_n (J_n^T \nabla_z \ell_n)^2`."""
        slopes = self._loss.gradient(xp, self._z, self._y)
        return squared_gradients(self._layers, self._passed, self._w[:, None], slopes[:, :, None])

    def squared_slopes(self, directions: Sequence[Layer]) -> float:
        r""":math:`\sum_n w_n (u \cdot \nabla \ell_n)^2`, with :math:`u \cdot \nabla \ell_n = \nabla_z \ell_n \cdot J_n u`."""
        _, Ju = forward_tangents(self._layers, directions, self._passed)
        slopes = np.sum(self._loss.gradient(xp, self._z, self._y) * Ju, axis=1)
        return float(np.sum(self._w * slopes**2))

    def _cotangents(self) -> Array:
        cotangents: Array = self._w[:, None] * self._loss.gradient(xp, self._z, self._y)
        return cotangents

    def _curved(self, tangents: Array) -> Array:
        r""":math:`w_n \Lambda_n u_n`, which is how the cotangents move with the outputs."""
        hessians = self._w[:, None, None] * self._loss.hessian(xp, self._z, self._y)
        return (hessians @ tangents[:, :, None])[:, :, 0]


def finite_forward(layers: Sequence[Layer], x: Array) -> ForwardPass:
    """Run the network on the rows of ``x``.

    Raises
    ------
    NonFiniteError
        If an output is NaN or infinite; says which parameters are, or that there was an overflow.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        passed = forward(layers, x)
    if not np.isfinite(passed.outputs).all():
        raise NonFiniteError(_cause(layers))
    return passed


def _cause(layers: Sequence[Layer]) -> str:
    for index, layer in enumerate(layers):
        for field, values in layer._asdict().items():
            if not np.isfinite(values).all():
                return f"layers.{index}.{field} has NaN or infinite entries at this point: take finite parameters"
    return "outputs of the network overflow at this point, although all parameters are finite: take smaller ones"
