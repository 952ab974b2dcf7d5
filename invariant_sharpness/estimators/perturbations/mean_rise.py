"""The mean rise of the loss under noise, Gaussian or uniform."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from invariant_sharpness import probes as random
from invariant_sharpness.estimators.perturbations.perturbations import Perturbations
from invariant_sharpness.progress import track
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector

Samples = npt.NDArray[np.float64]

Noise = Literal["normal", "uniform"]
"""Standard normal entries, or entries that are uniform between -1 and 1."""

_GRADIENTS_PER_PAIR = 2 / 3
"""Two losses, each about a third of a gradient."""


def rise_samples(around: Perturbations, noise: Noise, probes: int, seed: int) -> Samples:
    r"""Draws of the mean rise at v and at -v, with v from the noise.

    Such a pair cancels all odd terms of Taylor's series, the gradient's among them. The gradient's term has mean zero and falls
    with the scale of the noise as the first power, the mean with the second: with independent draws it would hide the mean
    where noise is small. At worst, where the loss is even, a pair is worth one draw instead of two.

    Cost: two losses for each probe. Memory: three vectors.

    Raises
    ------
    ValueError
        If the noise is not known.
    """
    if noise not in _DRAWS:
        msg = f'noise={noise!r} is not known: take "normal" or "uniform"'
        raise ValueError(msg)
    rises = []
    for index in track(range(probes), "perturbing", probes, gradients=_GRADIENTS_PER_PAIR):
        v = _DRAWS[noise](around.oracle, seed, index)
        rises.append((around.rise(v) + around.rise(-v)) / 2)
    return np.array(rises)


_DRAWS: Mapping[Noise, Callable[[CurvatureOracle, int, int], ParameterVector]] = MappingProxyType(
    {"normal": random.normals, "uniform": random.uniform}
)
