r"""The R-operator of Pearlmutter (1994): derivatives along a direction, carried through both passes.

For parameters moving as :math:`W_l + t V_l` and :math:`b_l + t v_l`, write :math:`R q = \mathrm{d}q / \mathrm{d}t` at :math:`t = 0`. Applying R to every
line of backpropagation gives the product of the second derivatives with the direction. ReLU is piecewise
linear, so its slopes do not move: :math:`R\,\phi'(z) = 0` away from the kinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from invariant_sharpness_numpy.derivatives import ForwardPass, backward
from invariant_sharpness_numpy.layers import Array, Layer


def forward_tangents(
    layers: Sequence[Layer], directions: Sequence[Layer], passed: ForwardPass
) -> tuple[list[Array], Array]:
    r"""The tangents :math:`R a_{l-1}` of the inputs of all layers, and :math:`R z = J v` of the outputs.

    .. math:: R z_l = W_l\, R a_{l-1} + V_l\, a_{l-1} + v_l, \qquad R a_l = \phi'(z_l) \circ R z_l, \qquad R a_0 = 0
    """
    Ra = [np.zeros_like(passed.activations[0])]
    hidden = zip(layers[:-1], directions[:-1], passed.activations[:-1], passed.slopes, strict=True)
    for (W, _), (V, v), a, slope in hidden:
        Ra.append(slope * (Ra[-1] @ W.T + a @ V.T + v))
    (W, _), (V, v) = layers[-1], directions[-1]
    return Ra, Ra[-1] @ W.T + passed.activations[-1] @ V.T + v


def backward_tangents(
    layers: Sequence[Layer],
    directions: Sequence[Layer],
    slopes: Sequence[Array],
    deltas: Sequence[Array],
    cotangent_tangents: Array,
) -> list[Array]:
    r"""The tangents of the backward pass, given that of the cotangents, :math:`R c`.

    .. math:: R \delta_d = R c, \qquad R \delta_l = \phi'(z_l) \circ (W_{l+1}^T R \delta_{l+1} + V_{l+1}^T \delta_{l+1})
    """
    Rdeltas = [cotangent_tangents]
    above = zip(layers[1:], directions[1:], slopes, deltas[1:], strict=True)
    for (W, _), (V, _), slope, delta in reversed(list(above)):
        Rdeltas.append(slope * (Rdeltas[-1] @ W + delta @ V))
    return Rdeltas[::-1]


def second_derivative(
    layers: Sequence[Layer],
    directions: Sequence[Layer],
    passed: ForwardPass,
    cotangents: Array,
    curvature: Callable[[Array], Array],
) -> list[Layer]:
    r"""The Hessian of :math:`\sum_n g_n(z_n)` times the direction: the tangent of the gradient.

    .. math:: R(\partial W_l) = \sum_n R\delta_{nl}\, a_{n,l-1}^T + \delta_{nl}\, (R a_{n,l-1})^T, \qquad R(\partial b_l) = \sum_n R\delta_{nl}

    Cost: two to three gradients.

    Parameters
    ----------
    layers, directions, passed
        The network, the direction, and the network's pass over the examples.
    cotangents
        The gradients :math:`c_n = \nabla g_n(z_n)` in the outputs, of shape (n, K).
    curvature
        How they move with the outputs: :math:`R c_n = \nabla^2 g_n(z_n)\, R z_n`.
    """
    Ra, Rz = forward_tangents(layers, directions, passed)
    deltas = backward(layers, passed.slopes, cotangents)
    Rdeltas = backward_tangents(layers, directions, passed.slopes, deltas, curvature(Rz))
    return [
        Layer(Rdelta.T @ a + delta.T @ tangent, Rdelta.sum(axis=0))
        for a, tangent, delta, Rdelta in zip(passed.activations, Ra, deltas, Rdeltas, strict=True)
    ]
