"""The losses in the operations of Keras, which TensorFlow's tapes differentiate: values and weights of rows."""

from __future__ import annotations

from typing import Any

from keras import ops

from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import (
    CrossEntropy,
    FunctionLoss,
    NormalizedCrossEntropy,
    OutputLoss,
    PositionLoss,
    SquaredError,
)

Tensor = Any


def values_and_weights(loss: PositionLoss | FunctionLoss, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of every row and its weight in the mean, both in the dtype of the outputs.

    Raises
    ------
    LossError
        If the loss is none of the library's own, and no callable.
    """
    if isinstance(loss, FunctionLoss):
        losses = loss.function(outputs, targets)
        return losses, ops.ones_like(losses)
    rows, row_targets = loss.rows(ops, outputs, targets)
    return _values(loss.row_loss, rows, row_targets), _weights(loss.row_loss, rows, row_targets)


def _values(loss: OutputLoss, rows: Tensor, targets: Tensor) -> Tensor:
    """The loss of each row of ``rows``, shape ``(m, K)``: the same function as ``loss.values``."""
    if isinstance(loss, SquaredError):
        return ops.mean(ops.square(rows - ops.cast(targets, rows.dtype)), axis=1)
    if isinstance(loss, NormalizedCrossEntropy):
        return _cross_entropy(_standardized(rows), targets)
    if isinstance(loss, CrossEntropy):
        return _cross_entropy(rows, targets)
    msg = (
        f"the loss {loss.name!r} is not known in the operations of Keras: pass a callable "
        f"(outputs, targets) -> one loss per example"
    )
    raise LossError(msg)


def _weights(loss: OutputLoss, rows: Tensor, targets: Tensor) -> Tensor:
    """The weight of each row: the same function as ``loss.weights``."""
    if not isinstance(loss, (CrossEntropy, NormalizedCrossEntropy)):
        return ops.ones_like(rows[:, 0])
    counts = ops.cast(ops.not_equal(ops.cast(targets, "int32"), loss.ignore_index), rows.dtype)
    hot = _one_hot(rows, targets) * counts[:, None]
    by_class = 1.0 if loss.class_weights is None else ops.convert_to_tensor(loss.class_weights, dtype=rows.dtype)
    return ops.sum(hot * by_class, axis=1)


def _cross_entropy(rows: Tensor, labels: Tensor) -> Tensor:
    shifted = rows - ops.max(rows, axis=1, keepdims=True)
    return ops.log(ops.sum(ops.exp(shifted), axis=1)) - ops.sum(shifted * _one_hot(rows, labels), axis=1)


def _one_hot(rows: Tensor, labels: Tensor) -> Tensor:
    classes = ops.arange(rows.shape[1], dtype="int32")
    return ops.cast(ops.equal(ops.cast(labels, "int32")[:, None], classes[None, :]), rows.dtype)


def _standardized(rows: Tensor) -> Tensor:
    """Outputs of mean 0 and variance 1; rows of equal outputs, which are ignored ones, become zeros and not NaN."""
    centered = rows - ops.mean(rows, axis=1, keepdims=True)
    variance = ops.mean(ops.square(centered), axis=1, keepdims=True)
    return centered / ops.sqrt(ops.where(variance > 0, variance, ops.ones_like(variance)))
