"""Losses of class labels besides cross-entropy: log-probabilities, and margins between scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from array_api_compat import device

from invariant_sharpness.losses.labels import ClassTargets, check_labels, one_hot

Array = Any


@dataclass(frozen=True, slots=True)
class NegativeLogLikelihood:
    r"""The loss :math:`\ell = -z_y` of log-probabilities z, as ``torch.nn.NLLLoss``; linear, so that its output Hessian is zero.

    Parameters
    ----------
    class_weights, ignore_index, divisor
        As in :class:`CrossEntropy`.

    Examples
    --------
    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> NegativeLogLikelihood().values(xp, np.log([[0.25, 0.75]]), np.array([0])).round(6).tolist()
    [1.386294]
    """

    class_weights: tuple[float, ...] | None = None
    ignore_index: int = -100
    divisor: Literal["weights", "rows"] = "weights"
    name = "nll"

    def check(self, xp: Any, outputs: Array, targets: Array, /) -> None:
        check_labels(xp, outputs, targets, self.ignore_index)

    def weights(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        return self._targets.weights(xp, outputs, targets)

    def values(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        masses = self._targets.masses(xp, outputs, targets)
        # Outputs without mass may be minus infinity.
        return -xp.sum(xp.where(masses > 0, outputs, xp.zeros_like(outputs)) * masses, axis=1)

    def gradient(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        return -self._targets.masses(xp, outputs, targets)

    def hessian(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        return xp.zeros_like(outputs)[:, :, None] * xp.zeros_like(outputs)[:, None, :]

    def hessian_root_product(self, xp: Any, outputs: Array, targets: Array, vectors: Array, /) -> Array:
        return xp.zeros_like(vectors)

    def hessian_factors(self, xp: Any, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        """Return one vector of zeros."""
        return xp.zeros_like(outputs[:, :1]), xp.zeros_like(outputs)[:, :, None]

    @property
    def _targets(self) -> ClassTargets:
        return ClassTargets(self.class_weights, self.ignore_index, divisor=self.divisor)


@dataclass(frozen=True, slots=True)
class MultiMargin:
    r"""Hinges :math:`\ell = \tfrac{w_y}K \sum_{i \ne y} \max(0, m - z_y + z_i)^p`, as ``torch.nn.MultiMarginLoss``.

    For p = 2 the output Hessian is :math:`\tfrac{2 w_y}K \sum_i (e_i - e_y)(e_i - e_y)^T` over the classes i within the margin, for
    p = 1 zero.

    Parameters
    ----------
    power, margin
        p, which is 1 or 2, and m.
    class_weights
        One weight per class; the mean over the data is not divided by them.

    Examples
    --------
    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> MultiMargin().values(xp, np.array([[1.0, 0.5]]), np.array([0])).tolist()
    [0.25]
    """

    power: int = 1
    margin: float = 1.0
    class_weights: tuple[float, ...] | None = None
    name = "multi_margin"

    def check(self, xp: Any, outputs: Array, targets: Array, /) -> None:
        check_labels(xp, outputs, targets, ignore_index=None)

    def weights(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        ClassTargets(self.class_weights).weights(xp, outputs, targets)  # raises, if they do not fit
        return xp.ones_like(outputs[:, 0])

    def values(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        excess, scales = self._excess(xp, outputs, targets)
        return xp.sum(excess**self.power * scales, axis=1)

    def gradient(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        excess, scales = self._excess(xp, outputs, targets)
        slopes = scales * (2 * excess if self.power == 2 else xp.astype(excess > 0, outputs.dtype))
        return slopes - xp.sum(slopes, axis=1, keepdims=True) * one_hot(xp, outputs, targets)

    def hessian(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        signs, vectors = self.hessian_factors(xp, outputs, targets)
        return (vectors * signs[:, None, :]) @ xp.matrix_transpose(vectors)

    def hessian_root_product(self, xp: Any, outputs: Array, targets: Array, vectors: Array, /) -> Array:
        weighted = xp.sqrt(self._curvatures(xp, outputs, targets)) * vectors
        return weighted - xp.sum(weighted, axis=1, keepdims=True) * one_hot(xp, outputs, targets)

    def hessian_factors(self, xp: Any, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        """Return the vectors ``e_i - e_y``, each with the curvature of its hinge."""
        identity = xp.eye(outputs.shape[1], dtype=outputs.dtype, device=device(outputs))
        return self._curvatures(xp, outputs, targets), identity - one_hot(xp, outputs, targets)[:, :, None]

    def _curvatures(self, xp: Any, outputs: Array, targets: Array) -> Array:
        excess, scales = self._excess(xp, outputs, targets)
        return 2 * scales * xp.astype(excess > 0, outputs.dtype) if self.power == 2 else xp.zeros_like(outputs)

    def _excess(self, xp: Any, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """By how much each class is within the margin, and what its hinge is multiplied by; zero for the label's own."""
        hot = one_hot(xp, outputs, targets)
        own = xp.sum(outputs * hot, axis=1, keepdims=True)
        given = (1.0,) if self.class_weights is None else self.class_weights
        weights = xp.sum(hot * xp.asarray(given, dtype=outputs.dtype, device=device(outputs)), axis=1, keepdims=True)
        excess = (outputs - own + self.margin) * (1 - hot)
        return xp.where(excess > 0, excess, xp.zeros_like(excess)), weights * (1 - hot) / outputs.shape[1]
