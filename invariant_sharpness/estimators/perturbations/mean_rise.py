"""The mean rise of the loss under Gaussian noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from invariant_sharpness import probes as random
from invariant_sharpness.estimators.perturbations.perturbations import Perturbations
from invariant_sharpness.progress import track

Samples = npt.NDArray[np.float64]

_GRADIENTS_PER_PAIR = 2 / 3
"""Two losses, each about a third of a gradient."""


def rise_samples(around: Perturbations, probes: int, seed: int) -> Samples:
    r"""Draws of the mean rise at v and at -v, with standard normal v.

    Such a pair cancels all odd terms of Taylor's series, the gradient's among them. The gradient's term has mean zero and falls
    with the scale of the noise as the first power, the mean with the second: with independent draws it would hide the mean
    where noise is small. At worst, where the loss is even, a pair is worth one draw instead of two.

    Cost: two losses for each probe. Memory: three vectors.
    """
    rises = []
    for index in track(range(probes), "perturbing", probes, gradients=_GRADIENTS_PER_PAIR):
        v = random.normals(around.oracle, seed, index)
        rises.append((around.rise(v) + around.rise(-v)) / 2)
    return np.array(rises)
