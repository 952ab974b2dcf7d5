"""Models that compute a loss of their own where they get ``labels``: what is measured has to be that loss."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from invariant_sharpness.adapters.data import split_batch
from invariant_sharpness.adapters.loss_terms import LossTerms, RowTerms
from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import ElementwiseLoss
from invariant_sharpness_torch.batches import called
from invariant_sharpness_torch.losses import resolve_loss

_TOLERANCE = 1e-4
"""Relative difference of a loss from the model's own, beyond its rounding; the shift of labels makes more, but for untrained models."""


def check_own_loss(model: nn.Module, loss: LossTerms, batch: Any, outputs: torch.Tensor, eps: float) -> None:
    """Raise if the loss is a cross-entropy of this batch, and not the one that the model itself computes of it, if it computes one.

    A causal language model whose labels are its inputs shifts them. A user's own function is refused where it has the value of
    cross-entropy and the model has another.

    Raises
    ------
    LossError
        Names the loss to take.
    """
    own = own_loss(model, batch)
    if own is None:
        return
    targets = split_batch(batch).targets
    given = _mean(loss, outputs, targets)
    if given is None or abs(given - own) <= _TOLERANCE * abs(own):
        return
    shifted = _mean(resolve_loss("next_token_cross_entropy"), outputs, targets)
    shifts = shifted is not None and abs(shifted - own) < abs(given - own) / 4
    if not _stands_for_cross_entropy(loss, given, outputs, targets, shifts=shifts) or (
        not shifts and abs(given - own) <= 4 * eps * abs(own)
    ):
        return
    advice = (
        'it takes labels for those of the next position: pass loss="next_token_cross_entropy"'
        if shifts
        else "pass that loss as a callable (outputs, targets) -> one loss per example"
    )
    msg = (
        f"the model itself computes a loss of {own:.6g} from the labels of the first batch, but {loss.name} is {given:.6g}; {advice}. "
        f"To measure {loss.name} on purpose, pass forward=(model, batch) -> (outputs, targets)"
    )
    raise LossError(msg)


def _stands_for_cross_entropy(
    loss: LossTerms, given: float, outputs: torch.Tensor, targets: torch.Tensor, *, shifts: bool
) -> bool:
    """Whether the loss is cross-entropy, or has its value; of a model that shifts labels, whether it is a loss of labels at all."""
    if shifts and isinstance(loss, RowTerms):
        return not isinstance(loss.positions.row_loss, ElementwiseLoss)
    plain = _mean(resolve_loss("cross_entropy"), outputs, targets)
    return plain is not None and abs(given - plain) <= _TOLERANCE * abs(plain)


def own_loss(model: nn.Module, batch: Any) -> float | None:
    """Return the loss that the model returns if it gets the targets as ``labels``; None if it takes none, or returns no loss."""
    try:
        parameters = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return None
    if "labels" not in parameters:
        return None
    inputs, targets = split_batch(batch)
    with torch.no_grad(), _same_configuration(model):
        try:
            loss = getattr(called(model, inputs, labels=targets), "loss", None)
        except Exception:
            return None
    return float(loss) if isinstance(loss, torch.Tensor) and loss.numel() == 1 else None


def _mean(loss: LossTerms, outputs: torch.Tensor, targets: torch.Tensor) -> float | None:
    """The loss of the batch; None if it cannot be taken of these outputs and targets."""
    with torch.no_grad():
        try:
            loss.check(outputs, targets)
            values, weights = loss.values(outputs, targets)
        except Exception:
            return None
        total = (values * weights).sum()
        return float(total if loss.reduction == "sum" else total / weights.sum())


@contextmanager
def _same_configuration(model: nn.Module) -> Generator[None]:
    """Some models write into their configuration which problem their labels are of."""
    configuration = getattr(model, "config", None)
    attributes = vars(configuration) if hasattr(configuration, "__dict__") else {}
    kept = dict(attributes)
    try:
        yield
    finally:
        attributes.clear()
        attributes.update(kept)
