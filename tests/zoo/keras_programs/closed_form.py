"""The outputs of a ReLU network, their Jacobian and the Gauss-Newton matrix, dense and in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np

from invariant_sharpness.losses import OutputLoss
from invariant_sharpness_numpy import ReluNetwork

Array = np.ndarray[Any, Any]


def outputs_and_jacobian(network: ReluNetwork, x: Array) -> tuple[Array, Array]:
    """Shapes ``(n, K)`` and ``(n, K, P)``; parameters in the order of Keras: kernels ``(in, out)``, then biases."""
    activations = [x]
    for W, b in zip(network.weights, network.biases or (), strict=True):
        z = activations[-1] @ W.T + b
        activations.append(np.maximum(z, 0))
    blocks: list[Array] = []
    back = np.broadcast_to(np.eye(z.shape[1]), (len(z), z.shape[1], z.shape[1]))
    for W, a in zip(reversed(network.weights), reversed(activations[:-1]), strict=True):
        blocks = [np.einsum("nj,nki->nkji", a, back).reshape(*back.shape[:2], -1), back, *blocks]
        back = (back @ W) * (a > 0)[:, None]
    return z, np.concatenate(blocks, axis=2)


def gauss_newton(network: ReluNetwork, x: Array, y: Array, loss: OutputLoss) -> Array:
    """The mean of ``J^T Lambda J`` with the weights of the loss."""
    z, J = outputs_and_jacobian(network, x)
    weights = loss.weights(np, z, y)
    return np.einsum("n,nka,nkl,nlb->ab", weights, J, loss.hessian(np, z, y), J, optimize=True) / weights.sum()
