"""Training of the demonstration's network: minibatches and Adam."""

from __future__ import annotations

import array_api_compat.numpy as xp
import numpy as np
import numpy.typing as npt

from invariant_sharpness.losses import CrossEntropy
from invariant_sharpness.runtime.progress import track
from invariant_sharpness_numpy.derivatives import backward, forward, gradient
from invariant_sharpness_numpy.layers import Array, Layer
from invariant_sharpness_numpy.network import ReluNetwork

Labels = npt.NDArray[np.int64]

_EPOCHS = 600
_BATCH = 128


def train_network(x: Array, labels: Labels, *, sizes: tuple[int, ...], seed: int) -> ReluNetwork:
    """A ReLU network with layers of these sizes, trained on cross-entropy until it fits every example.

    It stops after 600 epochs even if it does not.
    """
    parameters = [Layer(W.copy(), b.copy()) for W, b in ReluNetwork.initialize(sizes, seed=seed).layers]
    optimizer = Adam([array for layer in parameters for array in layer])
    random = np.random.default_rng([seed, 1])
    for _ in track(range(_EPOCHS), "training", _EPOCHS):
        order = random.permutation(len(x))
        for start in range(0, len(x), _BATCH):
            rows = order[start : start + _BATCH]
            optimizer.step([array for layer in _mean_gradient(parameters, x[rows], labels[rows]) for array in layer])
        if _accuracy(parameters, x, labels) == 1.0:
            break
    return ReluNetwork(tuple(W for W, _ in parameters), tuple(b for _, b in parameters))


def accuracy(network: ReluNetwork, x: Array, labels: Labels) -> float:
    """Share of the examples that the network classifies as labelled."""
    return _accuracy(network.layers, x, labels)


class Adam:
    r"""Adam of Kingma and Ba (2015), which changes the arrays in place.

    .. math:: m \gets \beta_1 m + (1 - \beta_1) g, \quad v \gets \beta_2 v + (1 - \beta_2) g^2, \quad
        \theta \gets \theta - \eta\, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Parameters
    ----------
    arrays
        The parameters.
    rate
        The learning rate :math:`\eta`.
    """

    def __init__(self, arrays: list[Array], rate: float = 3e-3) -> None:
        self._arrays = arrays
        self._rate = rate
        self._first = [np.zeros_like(array) for array in arrays]
        self._second = [np.zeros_like(array) for array in arrays]
        self._steps = 0

    def step(self, gradients: list[Array], beta1: float = 0.9, beta2: float = 0.999) -> None:
        """Take one step."""
        self._steps += 1
        for array, m, v, g in zip(self._arrays, self._first, self._second, gradients, strict=True):
            m += (1 - beta1) * (g - m)
            v += (1 - beta2) * (g**2 - v)
            mean, square = m / (1 - beta1**self._steps), v / (1 - beta2**self._steps)
            array -= self._rate * mean / (np.sqrt(square) + 1e-8)


def _mean_gradient(layers: list[Layer], x: Array, labels: Labels) -> list[Layer]:
    passed = forward(layers, x)
    cotangents = CrossEntropy().gradient(xp, passed.outputs, labels) / len(x)
    return gradient(passed.activations, backward(layers, passed.slopes, cotangents))


def _accuracy(layers: list[Layer], x: Array, labels: Labels) -> float:
    return float(np.mean(forward(layers, x).outputs.argmax(axis=1) == labels))
