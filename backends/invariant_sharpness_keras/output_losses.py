"""The named losses in the operations of Keras, which every engine differentiates."""

from __future__ import annotations

from typing import Any

from keras import ops

from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import CrossEntropy, NormalizedCrossEntropy, OutputLoss, SquaredError

Tensor = Any


def row_values(loss: OutputLoss, rows: Tensor, targets: Tensor) -> Tensor:
    """The loss of each row of ``rows``, shape ``(m, K)``: the same function as ``loss.values``.

    Raises
    ------
    LossError
        If the loss is none of the library's own.
    """
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


def _cross_entropy(rows: Tensor, labels: Tensor) -> Tensor:
    shifted = rows - ops.max(rows, axis=1, keepdims=True)
    classes = ops.arange(rows.shape[1], dtype="int32")
    hot = ops.cast(ops.equal(ops.cast(labels, "int32")[:, None], classes[None, :]), rows.dtype)
    return ops.log(ops.sum(ops.exp(shifted), axis=1)) - ops.sum(shifted * hot, axis=1)


def _standardized(rows: Tensor) -> Tensor:
    """Outputs of mean 0 and variance 1; rows of equal outputs, which are ignored ones, become zeros and not NaN."""
    centered = rows - ops.mean(rows, axis=1, keepdims=True)
    variance = ops.mean(ops.square(centered), axis=1, keepdims=True)
    return centered / ops.sqrt(ops.where(variance > 0, variance, ops.ones_like(variance)))
