"""Softmax cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from array_api_compat import device

from invariant_sharpness.errors import LossError
from invariant_sharpness.losses.chunks import by_rows
from invariant_sharpness.losses.labels import ClassTargets, one_hot

Array = Any


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    r"""Softmax cross-entropy :math:`\ell = \ln \sum_k e^{z_k} - z_y`, or :math:`\sum_c q_c (\ln \sum_k e^{z_k} - z_c)`.

    The masses :math:`q_c` come of label smoothing, class weights, and targets that are class probabilities, as in
    ``torch.nn.CrossEntropyLoss``. Output Hessian :math:`\Lambda = (\sum_c q_c) (\operatorname{diag}(p) - p p^T) \succeq 0` with
    :math:`p = \operatorname{softmax}(z)`. Not invariant to the scale of the outputs; invariant to a shift of all of them.

    Parameters
    ----------
    class_weights
        One weight per class: the mean over the data is weighted by that of the label. With class probabilities it is
        not, and the weight multiplies the term of its class.
    ignore_index
        Rows with this label do not count, whether it is a class or not.
    label_smoothing
        The probability that is shared out evenly among all classes.
    divisor
        What the sum of the losses is divided by: the weights of the labels, or the number of rows, ignored ones included.

    Notes
    -----
    A value costs one pass over the outputs, the Hessian K x K numbers for each row. All is made some rows at a time, so that
    nothing but a result is as large as the outputs; labels are looked up, and are no rows of K numbers.

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
    label_smoothing: float = 0.0
    divisor: Literal["weights", "rows"] = "weights"
    name = "cross_entropy"

    def check(self, xp: Any, outputs: Array, targets: Array, /) -> None:
        if outputs.ndim == 2 and outputs.shape[1] < 2:
            msg = (
                f"{self.name} of a single output is zero whatever the network does: give it one output per class, or pass "
                f'"binary_cross_entropy"'
            )
            raise LossError(msg)
        self._targets.check(xp, outputs, targets)
        check_logits(xp, outputs, self.name)

    def weights(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        return self._targets.weights(xp, outputs, targets)

    def values(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        def rows(outputs: Array, targets: Array) -> Array:
            below, highest = _below_largest(xp, outputs)
            log_normalizer = xp.log1p(_of_others(xp, xp.exp(below), highest))[:, 0]
            if self._targets.have_one_class(outputs, targets):
                own, mass = self._targets.of_labels(xp, below, targets)
                return log_normalizer * mass - own * mass
            q = self._targets.masses(xp, outputs, targets)
            return log_normalizer * xp.sum(q, axis=1) - xp.sum(below * q, axis=1)

        return by_rows(xp, rows, outputs, targets)

    def gradient(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        r""":math:`p_c \sum_{k \ne c} q_k - q_c (1 - p_c)`, in which nothing cancels where the network is sure of a label."""

        def rows(outputs: Array, targets: Array) -> Array:
            q, p = self._targets.masses(xp, outputs, targets), softmax(xp, outputs)
            return p * (xp.sum(q, axis=1, keepdims=True) - q) - q * _complements(xp, p)

        return by_rows(xp, rows, outputs, targets)

    def hessian(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        p = softmax(xp, outputs)
        identity = xp.eye(p.shape[1], dtype=p.dtype, device=device(p))
        own, others = p * _complements(xp, p), -p[:, :, None] * p[:, None, :]
        return xp.where(identity > 0, own[:, :, None], others) * self._total(xp, outputs, targets)[:, None, None]

    def hessian_root_product(self, xp: Any, outputs: Array, targets: Array, vectors: Array, /) -> Array:
        r""":math:`R u = \sqrt{\sum_c q_c}\, (\sqrt p \circ u - p\, (\sqrt p \cdot u))`."""

        def rows(outputs: Array, targets: Array, vectors: Array) -> Array:
            p = softmax(xp, outputs)
            return _centered(xp, p, xp.sqrt(p) * vectors) * xp.sqrt(self._total(xp, outputs, targets))[:, None]

        return by_rows(xp, rows, outputs, targets, vectors)

    def hessian_product(self, xp: Any, outputs: Array, targets: Array, vectors: Array, /) -> Array:
        r""":math:`\Lambda u = (\sum_c q_c) (p \circ u - p\, (p \cdot u))`, for one vector per row."""

        def rows(outputs: Array, targets: Array, vectors: Array) -> Array:
            p = softmax(xp, outputs)
            return _centered(xp, p, p * vectors) * self._total(xp, outputs, targets)[:, None]

        return by_rows(xp, rows, outputs, targets, vectors)

    def hessian_factors(self, xp: Any, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        r"""A square root with K - 1 columns, without an eigendecomposition, and the mass of each row.

        With :math:`q = \sqrt p`, a unit vector, :math:`\Lambda = \operatorname{diag}(q) (I - q q^T) \operatorname{diag}(q)` for mass one. A reflection
        takes q to the first axis, so that its other columns U have :math:`U U^T = I - q q^T`, and :math:`\operatorname{diag}(q)\, U` is

        .. math::
            v_{0r} = -q_0 q_r, \qquad v_{kr} = q_k \delta_{kr} - \frac{q_k^2 q_r}{1 + q_0} .

        For :math:`k = r` this is :math:`q_r (q_0 + 1 - p_r) / (1 + q_0)`, with the sum of the other classes for
        :math:`1 - p_r` of the likeliest: nothing cancels where the network is sure.
        """
        # The unit vector q.
        p = softmax(xp, outputs)
        q = xp.sqrt(p)
        # Entries for k = r and for k != r, of which the first row has another form.
        identity = xp.eye(p.shape[1], dtype=p.dtype, device=device(p))
        first = q[:, :1]
        own = q * (first + _complements(xp, p)) / (1 + first)
        others = xp.concat([first, p[:, 1:] / (1 + first)], axis=1)
        vectors = own[:, None, :] * identity - others[:, :, None] * q[:, None, :] * (1 - identity)
        return xp.ones_like(q[:, 1:]) * self._total(xp, outputs, targets)[:, None], vectors[:, :, 1:]

    @property
    def _targets(self) -> ClassTargets:
        return ClassTargets(self.class_weights, self.ignore_index, self.label_smoothing, self.divisor)

    def _total(self, xp: Any, outputs: Array, targets: Array) -> Array:
        """The mass of all classes, 1 for a label."""
        if self._targets.have_one_class(outputs, targets):
            return self._targets.of_labels(xp, outputs, targets)[1]
        return xp.sum(self._targets.masses(xp, outputs, targets), axis=1)


def check_logits(xp: Any, outputs: Array, name: str) -> None:
    """Raise if the outputs are probabilities, of which the loss would take softmax once more.

    The tolerance of their sums is such that other outputs of order one look like it in fewer than one of a million batches.
    """
    sums = xp.sum(outputs, axis=1)
    tolerance = min(1e-2, 1e-6 ** (1 / max(1, outputs.shape[0])))
    if bool(xp.all(outputs >= 0)) and bool(xp.all(xp.abs(sums - 1) < tolerance)):
        msg = (
            f"the outputs are probabilities, but {name} takes logits and applies softmax itself: build the model "
            f"without its last softmax, or take its logarithm (log_softmax), of which softmax makes the same probabilities"
        )
        raise LossError(msg)


def softmax(xp: Any, outputs: Array) -> Array:
    """Return class probabilities, row by row."""
    exponentials = xp.exp(outputs - xp.max(outputs, axis=1, keepdims=True))
    return exponentials / xp.sum(exponentials, axis=1, keepdims=True)


def _below_largest(xp: Any, outputs: Array) -> tuple[Array, Array]:
    r"""Outputs less the largest of their row, :math:`z_c - z_m`; and where that is, of equal ones one.

    Derivatives of a row's loss in :math:`z_m` are small differences of large terms if they go through :math:`z_m - z_m`: here that
    is a constant, and what is left are sums over the other classes. It is NaN if the largest output is infinite.
    """
    highest = _highest(xp, outputs)
    zeros = xp.zeros_like(outputs)
    largest = xp.sum(xp.where(highest, outputs, zeros), axis=1, keepdims=True)
    return xp.where(highest, zeros * largest, outputs - largest), highest


def _of_others(xp: Any, rows: Array, highest: Array) -> Array:
    """The sum over all classes but the likeliest, as a column."""
    return xp.sum(xp.where(highest, xp.zeros_like(rows), rows), axis=1, keepdims=True)


def _centered(xp: Any, p: Array, weighted: Array) -> Array:
    r"""Rows less p times their sums, :math:`v - p\, (1 \cdot v)`; at the likeliest class :math:`v (1 - p) - p \sum_{others} v`, which is the same."""
    highest = _highest(xp, p)
    plain = weighted - p * xp.sum(weighted, axis=1, keepdims=True)
    at_highest = weighted * _of_others(xp, p, highest) - p * _of_others(xp, weighted, highest)
    return xp.where(highest, at_highest, plain)


def _complements(xp: Any, p: Array) -> Array:
    """The probabilities :math:`1 - p_c` of all other classes, to their last digits."""
    highest = _highest(xp, p)
    return xp.where(highest, _of_others(xp, p, highest), 1 - p)


def _highest(xp: Any, rows: Array) -> Array:
    """Where the largest entry of each row is, of equal ones one."""
    return one_hot(xp, rows, xp.argmax(rows, axis=1)) > 0
