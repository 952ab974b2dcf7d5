"""Normalized softmax cross-entropy, equations (20)-(22) of Tsuzuku, Sato and Sugiyama (2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import device

from invariant_sharpness.errors import LossError
from invariant_sharpness.losses.cross_entropy import CrossEntropy

Array = Any


@dataclass(frozen=True, slots=True)
class NormalizedCrossEntropy:
    r"""Cross-entropy of outputs divided by their own standard deviation.

    .. math::
        \ell = -\ln \operatorname{softmax}(f')_y, \qquad
        f' = f / s, \quad s^2 = \tfrac1K \sum_i (f_i - \mu)^2, \quad \mu = \tfrac1K \sum_i f_i

    Invariant to :math:`f \to c f + a 1` with any :math:`c > 0` and :math:`a`, each of which may differ from
    example to example. The mean is not subtracted in (22), which softmax does not see. The loss
    is homogeneous of degree 0, so its output Hessian is indefinite wherever the gradient is not zero.

    With K = 2 outputs :math:`f'` is :math:`(1, -1)` up to order: the loss is piecewise constant and
    every curvature is zero, so it is refused. It is undefined where all outputs are equal.

    Parameters
    ----------
    class_weights, ignore_index
        As in :class:`CrossEntropy`.

    Notes
    -----
    Source: (20)-(22) of Tsuzuku, Sato and Sugiyama (2019).

    Examples
    --------
    The scale of the outputs and their shift do not change it.

    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> loss, outputs, labels = NormalizedCrossEntropy(), np.array([[1.0, 2.0, 4.0]]), np.array([2])
    >>> bool(np.isclose(loss.values(xp, outputs, labels), loss.values(xp, 8 * outputs + 3, labels)).all())
    True
    """

    class_weights: tuple[float, ...] | None = None
    ignore_index: int = -100
    name = "normalized_cross_entropy"

    def check(self, xp: Any, outputs: Array, targets: Array, /) -> None:
        self._of_logits.check(xp, outputs, targets)
        if outputs.shape[1] < 3:
            msg = (
                f"normalized_cross_entropy is piecewise constant with K = {outputs.shape[1]} outputs, so every "
                f'curvature is zero: use "cross_entropy", or a network with at least 3 outputs'
            )
            raise LossError(msg)
        spread = xp.max(outputs, axis=1) - xp.min(outputs, axis=1)
        equal = ((spread == 0) | (_variance(xp, outputs) == 0)) & (self.weights(xp, outputs, targets) > 0)
        if bool(xp.any(equal)):
            row = int(xp.argmax(xp.astype(equal, xp.int32)))
            msg = (
                f"normalized_cross_entropy divides by the standard deviation of the outputs, and all outputs "
                f'of example {row} in the batch are equal: use "cross_entropy", or leave this example out'
            )
            raise LossError(msg)

    def weights(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        return self._of_logits.weights(xp, outputs, targets)

    def values(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        u, _ = _standardize(xp, outputs)
        return self._of_logits.values(xp, u, targets)

    def gradient(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        r""":math:`\tfrac1s A (p - e_y)`, with :math:`A = I - \tfrac1K 11^T - \tfrac1K u u^T`."""
        u, s = _standardize(xp, outputs)
        q = self._of_logits.gradient(xp, u, targets)
        return _project(xp, u, q) / s

    def hessian(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        r""":math:`\tfrac1{s^2} [A S A - \tfrac1K (u^T q) A - \tfrac1K (u g^T + g u^T)]`.

        Here :math:`S = \operatorname{diag}(p) - p p^T`, :math:`q = p - e_y` and :math:`g = A q`.
        """
        u, s = _standardize(xp, outputs)
        classes = outputs.shape[1]
        q = self._of_logits.gradient(xp, u, targets)
        g = _project(xp, u, q)
        # A = I - 11^T / K - u u^T / K, and the curvature of the cross-entropy between two of them.
        projector = xp.eye(classes, dtype=u.dtype, device=device(u)) - (1 + u[:, :, None] * u[:, None, :]) / classes
        curvature = projector @ self._of_logits.hessian(xp, u, targets) @ projector
        # The second derivative of the normalization, along the gradient of the cross-entropy.
        radial = xp.sum(u * q, axis=1)[:, None, None] * projector
        mixed = u[:, :, None] * g[:, None, :]
        return (curvature - (radial + mixed + xp.matrix_transpose(mixed)) / classes) / s[:, :, None] ** 2

    def hessian_factors(self, xp: Any, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        """Return the eigenvalues, of both signs, and the eigenvectors."""
        eigenvalues, eigenvectors = xp.linalg.eigh(self.hessian(xp, outputs, targets))
        return eigenvalues, eigenvectors

    @property
    def _of_logits(self) -> CrossEntropy:
        return CrossEntropy(self.class_weights, self.ignore_index)


def _standardize(xp: Any, outputs: Array) -> tuple[Array, Array]:
    """Return outputs with mean 0 and population variance 1, and the standard deviation; zeros and 1 for equal outputs.

    Rows of equal outputs are refused unless they are ignored, and then they must not become NaN.
    """
    variance = _variance(xp, outputs)
    s = xp.sqrt(xp.where(variance > 0, variance, xp.ones_like(variance)))[:, None]
    return (outputs - xp.mean(outputs, axis=1, keepdims=True)) / s, s


def _variance(xp: Any, outputs: Array) -> Array:
    centered = outputs - xp.mean(outputs, axis=1, keepdims=True)
    return xp.mean(centered * centered, axis=1)


def _project(xp: Any, u: Array, q: Array) -> Array:
    """Remove from ``q`` its parts along 1 and along ``u``; ``|u|^2 = K``."""
    return q - xp.mean(q, axis=1, keepdims=True) - u * xp.mean(u * q, axis=1, keepdims=True)
