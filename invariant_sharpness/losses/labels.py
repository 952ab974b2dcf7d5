"""Class labels: checked once, then used as one-hot rows."""

from __future__ import annotations

from typing import Any

from array_api_compat import device

from invariant_sharpness.errors import DataError

Array = Any


def check_labels(xp: Any, outputs: Array, labels: Array, ignore_index: int) -> None:
    """Raise unless ``labels`` are integers from 0 to K - 1, one per row of ``outputs``."""
    if outputs.ndim != 2 or labels.ndim != 1 or outputs.shape[0] != labels.shape[0]:
        msg = (
            f"outputs have shape {tuple(outputs.shape)} and targets {tuple(labels.shape)}, but cross-entropy "
            f"needs one row of class scores and one class label per example: (n, K) and (n,)"
        )
        raise DataError(msg)
    if not xp.isdtype(labels.dtype, "integral"):
        msg = f"targets have dtype {labels.dtype}, but class labels are integers: convert them first"
        raise DataError(msg)
    labels = _widened(xp, labels)
    classes = outputs.shape[1]
    wrong = ((labels < 0) | (labels >= classes)) & (labels != ignore_index)
    if bool(xp.any(wrong)):
        row = int(xp.argmax(xp.astype(wrong, xp.int32)))
        msg = (
            f"target {int(labels[row])} of example {row} in the batch is not a class: the model has "
            f"{classes} outputs, so labels go from 0 to {classes - 1} (or ignore_index={ignore_index})"
        )
        raise DataError(msg)


def one_hot(xp: Any, outputs: Array, labels: Array) -> Array:
    """Make rows of zeros with a one at the label, in the dtype of ``outputs``; all zeros if ignored."""
    labels = _widened(xp, labels)
    classes = xp.arange(outputs.shape[1], device=device(outputs), dtype=labels.dtype)
    return xp.astype(classes[None, :] == labels[:, None], outputs.dtype)


def label_weights(
    xp: Any, outputs: Array, labels: Array, class_weights: tuple[float, ...] | None, ignore_index: int
) -> Array:
    """Return the weight of each row: that of its class, and zero if the label is ignored, be it a class or not."""
    counts = xp.astype(_widened(xp, labels) != ignore_index, outputs.dtype)
    hot = one_hot(xp, outputs, labels) * counts[:, None]
    if class_weights is None:
        return xp.sum(hot, axis=1)
    if len(class_weights) != outputs.shape[1]:
        msg = f"{len(class_weights)} class weights were given for {outputs.shape[1]} outputs: give one for each"
        raise DataError(msg)
    if not all(0 <= weight < float("inf") for weight in class_weights):
        msg = f"class weights are {class_weights}, but a weight is finite and not negative"
        raise DataError(msg)
    return xp.sum(hot * xp.asarray(class_weights, dtype=outputs.dtype, device=device(outputs)), axis=1)


def _widened(xp: Any, labels: Array) -> Array:
    """Convert labels to a type that holds every class and ``ignore_index``: bytes, the labels of many data sets, do not."""
    return xp.astype(labels, xp.int32) if xp.iinfo(labels.dtype).bits < 32 else labels
