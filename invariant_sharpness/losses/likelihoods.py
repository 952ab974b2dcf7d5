"""Negative log-likelihoods of single outputs: Bernoulli, Poisson, and the Kullback-Leibler divergence of log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import device

from invariant_sharpness.errors import DataError, LossError
from invariant_sharpness.losses.elementwise import ElementwiseLoss

Array = Any
Weights = npt.NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class BinaryCrossEntropy(ElementwiseLoss):
    r"""Cross-entropy of independent logits: :math:`\phi = w\,[(1 - t) \ln(1 + e^z) + v\, t \ln(1 + e^{-z})]`.

    With :math:`p = 1 / (1 + e^{-z})`, :math:`\phi' = w\,[(1 - t)\, p - v\, t\, (1 - p)]` and :math:`\phi'' = w (1 - t + v\, t)\, p (1 - p)`:
    nothing cancels where the network is sure of a label.

    Parameters
    ----------
    weight, pos_weight
        The weights w of outputs and v of their positive targets, as in ``torch.nn.BCEWithLogitsLoss``: arrays whose axes are the last
        ones of the outputs. None for ones.
    label_smoothing
        Targets are moved by so much towards one half: :math:`t (1 - \epsilon) + \epsilon / 2`.
    reduction
        Over the outputs of an example: their mean, or the sum.

    Examples
    --------
    A logit of zero is a probability of one half, whatever the label.

    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> BinaryCrossEntropy().values(xp, np.zeros((2, 1)), np.array([[0], [1]])).round(6).tolist()
    [0.693147, 0.693147]
    """

    weight: Weights = None
    pos_weight: Weights = None
    label_smoothing: float = 0.0
    name = "binary_cross_entropy"

    def check_elements(self, xp: Any, z: Array, t: Array, /) -> None:
        if not bool(xp.all((t >= 0) & (t <= 1))):
            msg = f"targets of {self.name} are probabilities, but some are below 0 or above 1: take labels 0 and 1"
            raise DataError(msg)
        for name in ("weight", "pos_weight"):
            _check_weight(name, getattr(self, name), tuple(z.shape))

    def element_values(self, xp: Any, z: Array, t: Array, /) -> Array:
        negative, positive = self._masses(xp, z, t)
        return negative * _softplus(xp, z) + positive * _softplus(xp, -z)

    def element_slopes(self, xp: Any, z: Array, t: Array, /) -> Array:
        negative, positive = self._masses(xp, z, t)
        return negative * _sigmoid(xp, z) - positive * _sigmoid(xp, -z)

    def element_curvatures(self, xp: Any, z: Array, t: Array, /) -> Array:
        return sum(self._masses(xp, z, t)) * _sigmoid(xp, z) * _sigmoid(xp, -z)

    def _masses(self, xp: Any, z: Array, t: Array) -> tuple[Array, Array]:
        """What multiplies ``ln(1 + exp(z))`` and ``ln(1 + exp(-z))``."""
        t = t * (1 - self.label_smoothing) + self.label_smoothing / 2
        weight = _array(xp, self.weight, z)
        return (1 - t) * weight, _array(xp, self.pos_weight, z) * t * weight


@dataclass(frozen=True)
class Poisson(ElementwiseLoss):
    r"""Negative log-likelihood of counts t with the logarithm of their rate as the output: :math:`\phi = e^z - t z`.

    Parameters
    ----------
    log_input
        Whether outputs are logarithms of rates; if not, they are rates, with :math:`\phi = z - t \ln(z + \epsilon)`.
    full
        Whether Stirling's approximation of :math:`\ln t!` is added where t is larger than 1.
    eps
        The constant :math:`\epsilon`.
    reduction
        Over the outputs of an example: their mean, or the sum.

    Examples
    --------
    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> Poisson().values(xp, np.array([[0.0, 0.0]]), np.array([[3.0, 1.0]])).tolist()
    [1.0]
    """

    log_input: bool = True
    full: bool = False
    eps: float = 1e-8
    name = "poisson"

    def check_elements(self, xp: Any, z: Array, t: Array, /) -> None:
        _check_not_negative(xp, t, "counts", self.name)

    def element_values(self, xp: Any, z: Array, t: Array, /) -> Array:
        values = xp.exp(z) - t * z if self.log_input else z - t * xp.log(z + self.eps)
        if not self.full:
            return values
        large = xp.where(t > 1, t, xp.ones_like(t))
        stirling = large * xp.log(large) - large + 0.5 * xp.log(large * (2 * pi))
        return values + xp.where(t > 1, stirling, xp.zeros_like(t))

    def element_slopes(self, xp: Any, z: Array, t: Array, /) -> Array:
        return xp.exp(z) - t if self.log_input else 1 - t / (z + self.eps)

    def element_curvatures(self, xp: Any, z: Array, t: Array, /) -> Array:
        return xp.exp(z) if self.log_input else t / (z + self.eps) ** 2


@dataclass(frozen=True)
class KullbackLeibler(ElementwiseLoss):
    r"""Divergence :math:`\phi = t (\ln t - z)` of log-probabilities z from probabilities t, as ``torch.nn.KLDivLoss``; its output Hessian is zero.

    Parameters
    ----------
    log_target
        Whether targets are logarithms of probabilities.
    reduction
        Over the outputs of an example: their mean, or the sum (which ``"batchmean"`` is).

    Examples
    --------
    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> KullbackLeibler(reduction="sum").values(xp, np.log([[0.5, 0.5]]), np.array([[1.0, 0.0]])).round(6).tolist()
    [0.693147]
    """

    log_target: bool = False
    name = "kl_divergence"

    def check_elements(self, xp: Any, z: Array, t: Array, /) -> None:
        if not self.log_target:
            _check_not_negative(xp, t, "probabilities", self.name)

    def element_values(self, xp: Any, z: Array, t: Array, /) -> Array:
        if self.log_target:
            return xp.exp(t) * (t - z)
        return t * xp.log(xp.where(t > 0, t, xp.ones_like(t))) - t * z

    def element_slopes(self, xp: Any, z: Array, t: Array, /) -> Array:
        return -xp.exp(t) * xp.ones_like(z) if self.log_target else -t * xp.ones_like(z)

    def element_curvatures(self, xp: Any, z: Array, t: Array, /) -> Array:
        return xp.zeros_like(z)


def _softplus(xp: Any, z: Array) -> Array:
    """The logarithm of ``1 + exp(z)``; the shift cancels from every derivative, also where autograd finds a kink in it."""
    shift = xp.maximum(z, xp.zeros_like(z))
    return shift + xp.log(xp.exp(-shift) + xp.exp(z - shift))


def _sigmoid(xp: Any, z: Array) -> Array:
    """``1 / (1 + exp(-z))`` without an overflow."""
    shift = xp.maximum(z, xp.zeros_like(z))
    return xp.exp(z - shift) / (xp.exp(-shift) + xp.exp(z - shift))


def _array(xp: Any, weight: Weights, like: Array) -> Array:
    given = np.ones(1) if weight is None else weight
    return xp.asarray(given, dtype=like.dtype, device=device(like))


def _check_weight(name: str, weight: Weights, shape: tuple[int, ...]) -> None:
    """Raise unless a weight is finite, not negative, and the same for every example."""
    if weight is None:
        return
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        msg = f"{name} has entries that are negative or not finite, but a weight is finite and not negative"
        raise LossError(msg)
    own = weight.shape if weight.ndim < len(shape) else weight.shape[1:]
    if (
        weight.ndim > len(shape)
        or weight.shape[: weight.ndim - len(own)] not in ((), (1,))
        or not _fits(own, shape[1:])
    ):
        msg = (
            f"{name} has shape {weight.shape} for outputs of shape {shape}, of which the first axis counts examples, but it has to be the "
            f"same for every example: one weight for each output, shape {shape[1:]}"
        )
        raise LossError(msg)


def _fits(shape: tuple[int, ...], into: tuple[int, ...]) -> bool:
    aligned = into[len(into) - len(shape) :]
    return all(own in (1, length) for own, length in zip(shape, aligned, strict=True))


def _check_not_negative(xp: Any, t: Array, what: str, name: str) -> None:
    if bool(xp.any(t < 0)):
        msg = f"targets of {name} are {what}, but some are negative: look for labels that mean something else"
        raise DataError(msg)
