"""The mean rise of the loss under noise, Gaussian or uniform."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from invariant_sharpness import probes as random
from invariant_sharpness.checkpoints import loop_name
from invariant_sharpness.estimators.kept_numbers import kept_numbers
from invariant_sharpness.estimators.perturbations.perturbations import Perturbations
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

    def rise_of_pair(index: int) -> float:
        v = _DRAWS[noise](around.oracle, seed, index)
        return (around.rise(v) + around.rise(-v)) / 2

    loop = loop_name("mean rise", around.oracle, around.oracle.parameters, around.scale, noise, seed)
    return kept_numbers(range(probes), rise_of_pair, "perturbing", loop, gradients=_GRADIENTS_PER_PAIR)


_DRAWS: Mapping[Noise, Callable[[CurvatureOracle, int, int], ParameterVector]] = MappingProxyType(
    {"normal": random.normals, "uniform": random.uniform}
)
