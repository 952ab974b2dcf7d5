"""Points near the model's parameters, and how much higher the loss is there: at one point, and in the mean under noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.errors import ArgumentError, LossError, NonFiniteError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.runtime.loop import Loop, tabulate

_ROUNDINGS = 4
"""An increase of so few roundings of the loss is not told from none."""


@dataclass(frozen=True, slots=True)
class Perturbations:
    r"""The points :math:`\theta + s \circ v`, by their coordinates v.

    As nothing is divided by the scale s, it may be zero or negative: a parameter whose scale is zero stays where it is.

    Parameters
    ----------
    oracle
        The loss, and the parameters :math:`\theta`.
    scale
        How far each parameter moves for :math:`v_i = 1`.
    loss
        The loss at the parameters.
    """

    oracle: CurvatureOracle
    scale: ParameterVector
    loss: float

    @classmethod
    def equal(cls, oracle: CurvatureOracle, size: float) -> Perturbations:
        """All parameters move equally far, by ``size``."""
        scale = oracle.parameters.map(lambda array: oracle.xp.full_like(array, size))
        return cls(oracle, scale, oracle.loss(oracle.parameters))

    @classmethod
    def relative(cls, oracle: CurvatureOracle, size: float) -> Perturbations:
        """Each parameter moves by the fraction ``size`` of itself; one that is zero does not move.

        The scale keeps the parameter's sign, so that it follows negative factors too.
        """
        parameters = oracle.parameters
        return cls(oracle, parameters * size, oracle.loss(parameters))

    def increase(self, v: ParameterVector) -> float:
        r""":math:`L(\theta + s \circ v) - L(\theta)`.

        Raises
        ------
        NonFiniteError
            If the loss is not finite there.
        """
        advice = "the loss is not finite at a perturbed point: perturb less, by a smaller radius, scale or epsilon"
        try:
            increase = self.oracle.loss(self._point(v)) - self.loss
        except NonFiniteError as error:
            msg = f"{advice} ({error})"
            raise NonFiniteError(msg) from error
        if not isfinite(increase):
            raise NonFiniteError(advice)
        return increase

    def slope(self, v: ParameterVector) -> ParameterVector:
        r"""Return the gradient of the increase in v, :math:`s \circ \nabla L(\theta + s \circ v)`."""
        return self.scale * self.oracle.gradient(self._point(v))

    def over_one_plus_loss(self, increase: float) -> float:
        r"""Return :math:`\text{increase} / (1 + L(\theta))`, the relative increase of Keskar et al. (2017).

        Raises
        ------
        LossError
            If the loss is not above -1.
        """
        if self.loss <= -1:
            msg = (
                f"the mean loss is {self.loss:g}, and the rise is divided by 1 + loss, which has to be positive: add a "
                f"constant to the loss, so that it is not negative"
            )
            raise LossError(msg)
        return increase / (1 + self.loss)

    @property
    def rounding(self) -> float:
        """The error of an increase that comes from rounding the loss."""
        return machine_epsilon(self.oracle) * abs(self.loss)

    def notes(self, increase: float) -> tuple[str, ...]:
        """Warn if the increase drowns in rounding."""
        if self.loss == 0 or abs(increase) > _ROUNDINGS * self.rounding:
            return ()
        return (
            f"the loss rises by {increase:.2g}, no more than it is rounded: perturb more, or compute more precisely",
        )

    def _point(self, v: ParameterVector) -> ParameterVector:
        return self.oracle.parameters + self.scale * v


def require_positive(name: str, value: float) -> None:
    """Raise ``ArgumentError`` unless the number is positive and finite."""
    if not (value > 0 and isfinite(value)):
        msg = f"{name}={value}, but it has to be positive and finite"
        raise ArgumentError(msg)


Samples = npt.NDArray[np.float64]

Noise = Literal["normal", "uniform"]
"""Standard normal entries, or entries that are uniform between -1 and 1."""

_GRADIENTS_PER_PAIR = 2 / 3
"""Two losses, each about a third of a gradient."""


def increase_samples(around: Perturbations, noise: Noise, probes: int, seed: int) -> Samples:
    r"""Draw mean increases of the loss at v and at -v, with v from the noise.

    Such a pair cancels all odd terms of Taylor's series, the gradient's among them. The gradient's term has mean zero and falls
    with the scale of the noise as the first power, the mean with the second: with independent draws it would hide the mean
    where noise is small. At worst, where the loss is even, a pair is worth one draw instead of two.

    Cost: two losses for each probe. Memory: three vectors.

    Raises
    ------
    ArgumentError
        If the noise is not known.
    """
    if noise not in _DRAWS:
        msg = f'noise={noise!r} is not known: take "normal" or "uniform"'
        raise ArgumentError(msg)

    def increases_of_pairs(indices: Sequence[int]) -> Iterator[float]:
        for index in indices:
            v = _DRAWS[noise](around.oracle, seed, index)
            yield (around.increase(v) + around.increase(-v)) / 2

    settings = (around.scale, noise, seed)
    loop = Loop("perturbing", around.oracle, settings, total=probes, gradients=_GRADIENTS_PER_PAIR, order=1)
    return tabulate(loop, range(probes), increases_of_pairs)


_DRAWS: Mapping[Noise, Callable[[CurvatureOracle, int, int], ParameterVector]] = MappingProxyType(
    {"normal": random.normals, "uniform": random.uniform}
)
