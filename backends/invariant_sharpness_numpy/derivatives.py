r"""First derivatives of a ReLU network in closed form, for a batch of examples as rows.

With :math:`a_0 = x`, layer :math:`l = 1 \dots d` computes :math:`z_l = W_l a_{l-1} + b_l`, and :math:`a_l = \phi(z_l)` with
:math:`\phi(z) = \max(z, 0)` if another layer follows. The outputs are :math:`z = z_d`. For rows, :math:`W a` reads ``a @ W.T``
and :math:`W^T \delta` reads ``delta @ W``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness_numpy.layers import Array, Layer


@dataclass(frozen=True, slots=True)
class ForwardPass:
    r"""What the derivatives need of a pass through the network.

    Parameters
    ----------
    activations
        The inputs :math:`a_{l-1}` of all layers.
    slopes
        :math:`\phi'(z_l)` of the hidden layers, which is 0 at a kink.
    outputs
        :math:`z_d`, of shape (n, K).
    """

    activations: list[Array]
    slopes: list[Array]
    outputs: Array


def forward(layers: Sequence[Layer], x: Array) -> ForwardPass:
    """Run the network on the rows of ``x``."""
    activations: list[Array] = [x]
    slopes: list[Array] = []
    for W, b in layers[:-1]:
        z = activations[-1] @ W.T + b
        slopes.append(np.heaviside(z, 0.0))
        activations.append(np.maximum(z, 0.0))
    W, b = layers[-1]
    return ForwardPass(activations, slopes, activations[-1] @ W.T + b)


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


def backward(layers: Sequence[Layer], slopes: Sequence[Array], cotangents: Array) -> list[Array]:
    r"""Derivatives :math:`\delta_l = \partial (c \cdot z) / \partial z_l` of every example, for every layer.

    .. math:: \delta_d = c, \qquad \delta_l = \phi'(z_l) \circ W_{l+1}^T \delta_{l+1}
    """
    deltas = [cotangents]
    for (W, _), slope in zip(reversed(layers[1:]), reversed(slopes), strict=True):
        deltas.append(slope * (deltas[-1] @ W))
    return deltas[::-1]


def gradient(activations: Sequence[Array], deltas: Sequence[Array]) -> list[Layer]:
    r"""The gradient of :math:`\sum_n c_n \cdot z_n`.

    .. math:: \partial W_l = \sum_n \delta_{nl}\, a_{n,l-1}^T, \qquad \partial b_l = \sum_n \delta_{nl}
    """
    return [Layer(delta.T @ a, delta.sum(axis=0)) for a, delta in zip(activations, deltas, strict=True)]


def squared_gradients(layers: Sequence[Layer], passed: ForwardPass, signs: Array, vectors: Array) -> list[Layer]:
    r"""The sum :math:`\sum_n \sum_r s_{nr} (J_n^T v_{nr})^2` of squares, entry by entry.

    The gradient of one example in a weight is the outer product :math:`\delta a^T`, so the sum over r can
    be taken first: one matrix product per layer, whatever the number of terms.

    .. math:: \sum_{nr} s_{nr} (\delta_{nr} a_n^T)^2 = \sum_n \Big(\sum_r s_{nr} \delta_{nr}^2\Big) (a_n^2)^T

    Cost: R backward passes.

    Parameters
    ----------
    layers, passed
        The network, and its pass over the examples.
    signs
        The factors s, of any sign, of shape (n, R).
    vectors
        Cotangents v of the outputs, of shape (n, K, R).
    """
    sums = [np.zeros((len(signs), len(W))) for W, _ in layers]
    for r in range(signs.shape[1]):
        deltas = backward(layers, passed.slopes, vectors[:, :, r])
        sums = [total + signs[:, [r]] * delta**2 for total, delta in zip(sums, deltas, strict=True)]
    return gradient([a**2 for a in passed.activations], sums)
