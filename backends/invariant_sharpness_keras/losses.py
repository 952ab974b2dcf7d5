"""Losses of a model's outputs: those of the core, Keras' own, and any callable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
from keras import ops

from invariant_sharpness.adapters.data import Batch, batch_size
from invariant_sharpness.adapters.sample_weights import without_weights
from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import (
    LOSS_NAMES,
    ElementwiseLoss,
    FunctionLoss,
    OutputLoss,
    PositionLoss,
    named_loss,
)
from invariant_sharpness_keras.keras_losses import KerasFunction, of_keras

Loss = PositionLoss | FunctionLoss


def resolve_loss(loss: Any) -> Loss:
    """Return the loss behind a name, a core loss, a loss of Keras, or a callable.

    Raises
    ------
    LossError
        If it is none of these.
    """
    if isinstance(loss, str) and loss in LOSS_NAMES:
        return PositionLoss(named_loss(loss))
    if isinstance(loss, OutputLoss):
        return PositionLoss(loss)
    if found := of_keras(loss):
        return found
    if isinstance(loss, str):
        return PositionLoss(named_loss(loss))
    if callable(loss):
        return FunctionLoss(cast("Callable[[Any, Any], Any]", loss))
    msg = f"loss of type {type(loss).__name__} is not known: pass a name, a keras loss, or a callable"
    raise LossError(msg)


def of_batches(loss: Loss) -> Loss:
    """Return the loss of batches that are one example each: of a function of Keras' own, which has a loss for each row, the mean."""
    if not (isinstance(loss, FunctionLoss) and isinstance(loss.function, KerasFunction) and loss.function.is_of_keras):
        return loss
    rows = loss.function
    return FunctionLoss(replace(rows, function=lambda targets, outputs: ops.mean(rows(outputs, targets))))


def check_probabilities(loss: Loss, outputs: np.ndarray[Any, Any]) -> None:
    """Raise LossError if the loss takes probabilities, and the outputs are none."""
    if not (isinstance(loss, FunctionLoss) and isinstance(loss.function, KerasFunction)):
        return
    if loss.function.of_probabilities and not ((outputs >= 0).all() and (outputs <= 1).all()):
        msg = (
            f"{loss.name} takes probabilities (from_logits=False), but the outputs go from {outputs.min():.3g} to {outputs.max():.3g}: "
            f"pass the loss with from_logits=True"
        )
        raise LossError(msg)


def number_of_rows(loss: Loss, batch: Batch, *, rows_of_targets: bool) -> int:
    """Return how many rows the loss sees: examples, or their positions.

    Parameters
    ----------
    loss, batch
        The loss, and what it is taken of.
    rows_of_targets
        Whether targets have one number for each output.
    """
    if isinstance(loss, FunctionLoss) or isinstance(loss.row_loss, ElementwiseLoss):
        return batch_size(batch)
    targets = without_weights(batch.targets)
    return targets.size // targets.shape[-1] if rows_of_targets else targets.size
