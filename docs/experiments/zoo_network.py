"""A trained network as the measures of the zoo see it, whatever framework it was trained in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import invariant_sharpness as ish

SMALL_LOSS = 0.05
"""Training stops where the mean cross-entropy of the training set is at most this, as Jiang et al. stop at a fixed one."""

MOST_EPOCHS = 200

UNITS_PER_CHANNEL = 16
"""Units of a LeNet's dense layers for each channel of its first convolution; LeNet-5 has 20 and 14."""

Array = npt.NDArray[np.float64]
Noise = Callable[[int, tuple[int, ...]], Array]


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Parameters
    ----------
    oracle
        The oracle of a loss by name, on the training set, in inference mode.
    initial, weights
        Weights of dense layers and convolutions before and after training, ``(outputs, inputs, ...)``.
    outputs
        The logits for an array of images.
    perturbed_outputs
        The logits of the training set with noise added to each parameter.
    squared_outputs
        The logits for an image of ones, with every parameter squared; None for networks with batch normalization.
    parameter_count
        Of all trained parameters.
    epochs, loss
        How long it was trained, and the training loss that it reached.
    """

    oracle: Callable[[str], ish.CurvatureOracle]
    initial: Sequence[Array]
    weights: Sequence[Array]
    outputs: Callable[[npt.NDArray[np.float32]], Array]
    perturbed_outputs: Callable[[Noise], Array]
    squared_outputs: Callable[[], Array] | None
    parameter_count: int
    epochs: int
    loss: float
