"""Softmax cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import device

from invariant_sharpness.errors import LossError
from invariant_sharpness.losses.labels import check_labels, label_weights, one_hot

Array = Any


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    r"""Softmax cross-entropy :math:`\ell = \ln \sum_k e^{z_k} - z_y`.

    Output Hessian :math:`\Lambda = \operatorname{diag}(p) - p p^T \succeq 0` with
    :math:`p = \operatorname{softmax}(z)`. Not invariant to the scale of the outputs; invariant to
    a shift of all of them.

    Parameters
    ----------
    class_weights
        One weight per class: the mean over the data is weighted by that of the label.
    ignore_index
        Rows with this label do not count, whether it is a class or not.

    Notes
    -----
    A value costs one pass over the outputs, the Hessian K x K numbers for each row.

    Examples
    --------
    Of two equal outputs each class has probability 1/2, so that the gradient is p - e_y = (-1/2, 1/2).

    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> outputs, labels = np.zeros((1, 2)), np.array([0])
    >>> CrossEntropy().gradient(xp, outputs, labels).tolist(), CrossEntropy().hessian(xp, outputs, labels).tolist()
    ([[-0.5, 0.5]], [[[0.25, -0.25], [-0.25, 0.25]]])
    """

    class_weights: tuple[float, ...] | None = None
    ignore_index: int = -100
    name = "cross_entropy"

    def check(self, xp: Any, outputs: Array, targets: Array, /) -> None:
        check_labels(xp, outputs, targets, self.ignore_index)
        if outputs.shape[1] < 2:
            msg = (
                f"{self.name} of a single output is zero whatever the network does: give it one output per class, or pass a "
                f"binary cross-entropy as a callable (outputs, targets) -> one loss per example"
            )
            raise LossError(msg)

    def weights(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        return label_weights(xp, outputs, targets, self.class_weights, self.ignore_index)

    def values(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        shifted = outputs - xp.max(outputs, axis=1, keepdims=True)
        log_normalizer = xp.log(xp.sum(xp.exp(shifted), axis=1))
        return log_normalizer - xp.sum(shifted * one_hot(xp, outputs, targets), axis=1)

    def gradient(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        return softmax(xp, outputs) - one_hot(xp, outputs, targets)

    def hessian(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        p = softmax(xp, outputs)
        return _diagonal(xp, p) - p[:, :, None] * p[:, None, :]

    def hessian_root_product(self, xp: Any, outputs: Array, targets: Array, vectors: Array, /) -> Array:
        r""":math:`R u = \sqrt p \circ u - p\, (\sqrt p \cdot u)`."""
        p = softmax(xp, outputs)
        weighted = xp.sqrt(p) * vectors
        return weighted - p * xp.sum(weighted, axis=1, keepdims=True)

    def hessian_factors(self, xp: Any, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        r"""A square root with K - 1 columns, without an eigendecomposition.

        With :math:`q = \sqrt p`, a unit vector, :math:`\Lambda = \operatorname{diag}(q) (I - q q^T) \operatorname{diag}(q)`. A reflection
        takes q to the first axis, so that its other columns U have :math:`U U^T = I - q q^T`, and :math:`\operatorname{diag}(q)\, U` is

        .. math::
            v_{0r} = -q_0 q_r, \qquad v_{kr} = q_k \delta_{kr} - \frac{q_k^2 q_r}{1 + q_0} .

        For :math:`k = r` this is :math:`q_r (q_0 + 1 - p_r) / (1 + q_0)`, with the sum of the other classes for
        :math:`1 - p_r`: nothing cancels where the network is sure.
        """
        # The unit vector q.
        p = softmax(xp, outputs)
        q = xp.sqrt(p)
        # Entries for k = r and for k != r, of which the first row has another form.
        identity = xp.eye(p.shape[1], dtype=p.dtype, device=device(p))
        first = q[:, :1]
        own = q * (first + p @ (1 - identity)) / (1 + first)
        others = xp.concat([first, p[:, 1:] / (1 + first)], axis=1)
        vectors = own[:, None, :] * identity - others[:, :, None] * q[:, None, :] * (1 - identity)
        return xp.ones_like(q[:, 1:]), vectors[:, :, 1:]


def softmax(xp: Any, outputs: Array) -> Array:
    """Return class probabilities, row by row."""
    exponentials = xp.exp(outputs - xp.max(outputs, axis=1, keepdims=True))
    return exponentials / xp.sum(exponentials, axis=1, keepdims=True)


def _diagonal(xp: Any, rows: Array) -> Array:
    """Make the diagonal matrix of each row: (n, K) to (n, K, K)."""
    return rows[:, :, None] * xp.eye(rows.shape[1], dtype=rows.dtype, device=device(rows))
