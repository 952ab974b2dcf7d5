"""Losses of a model's outputs: those of the core, Keras' own objects for them, and any callable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import keras
import numpy as np

from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import CrossEntropy, FunctionLoss, OutputLoss, PositionLoss, SquaredError, named_loss

Loss = PositionLoss | FunctionLoss


def resolve_loss(loss: Any) -> Loss:
    """Return the loss behind a name, a core loss, Keras' cross-entropy and squared error, or a callable.

    Raises
    ------
    LossError
        If it is none of these, or a Keras loss that takes ``(targets, outputs)`` or probabilities.
    """
    if isinstance(loss, str):
        return PositionLoss(named_loss(loss))
    if isinstance(loss, OutputLoss):
        return PositionLoss(loss)
    if isinstance(loss, keras.losses.Loss):
        return PositionLoss(_of_keras(loss))
    if getattr(loss, "__module__", "").startswith("keras."):
        name = FunctionLoss(loss).name
        msg = (
            f"Keras' {name} takes (targets, outputs): pass a name, or lambda outputs, targets: {name}(targets, outputs)"
        )
        raise LossError(msg)
    if callable(loss):
        return FunctionLoss(cast("Callable[[Any, Any], Any]", loss))
    msg = f"loss of type {type(loss).__name__} is not known: pass a name, a keras loss, or a callable"
    raise LossError(msg)


def _of_keras(loss: keras.losses.Loss) -> OutputLoss:
    if isinstance(loss, keras.losses.MeanSquaredError):
        return SquaredError()
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        options = loss.get_config()
        if options["from_logits"]:
            ignored = options.get("ignore_class")
            return CrossEntropy() if ignored is None else CrossEntropy(ignore_index=ignored)
        msg = (
            "SparseCategoricalCrossentropy(from_logits=False) takes probabilities: build the model without its last "
            'softmax, and pass "cross_entropy"'
        )
        raise LossError(msg)
    msg = (
        f"keras.losses.{type(loss).__name__} is not supported: pass a name, SparseCategoricalCrossentropy(from_logits=True), "
        f"MeanSquaredError(), or a callable (outputs, targets) -> one loss per example"
    )
    raise LossError(msg)


def check_logits(loss: Loss, outputs: np.ndarray[Any, Any]) -> None:
    """Raise LossError if the outputs are probabilities, and the loss would take softmax of them once more."""
    if isinstance(loss, FunctionLoss) or isinstance(loss.row_loss, SquaredError) or outputs.shape[-1] < 2:
        return
    if (outputs >= 0).all() and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3):
        msg = (
            f"the outputs are probabilities, but {loss.name} takes logits and applies softmax itself: build the model "
            f"without its last softmax (activation=None in the last layer; the weights stay the same)"
        )
        raise LossError(msg)
