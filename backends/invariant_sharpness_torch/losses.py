"""The losses that users give to the PyTorch backend: by name, of the core, torch's own modules, and any function of tensors."""

from __future__ import annotations

from typing import Any

import array_api_compat.torch as xp
import torch
from torch import nn

from invariant_sharpness.adapters.data import infinite_output_hessian
from invariant_sharpness.adapters.loss_terms import LossTerms, RowTerms
from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import CrossEntropy, OutputLoss, PositionLoss, SquaredError, named_loss
from invariant_sharpness_torch.callable_losses import CallableTerms, on_copies
from invariant_sharpness_torch.products import gradients, second_derivative

_CLASSES_ON_AXIS_ONE = "torch.nn.CrossEntropyLoss() as the loss if the classes stand on axis 1"


def resolve_loss(loss: Any) -> LossTerms:
    """Return the loss behind a name, a core loss, ``nn.CrossEntropyLoss``, ``nn.MSELoss`` or a callable.

    Raises
    ------
    LossError
        If it is none of these, or a torch loss with an option that is not supported.
    """
    if isinstance(loss, str):
        return _rows(named_loss(loss))
    if isinstance(loss, OutputLoss):
        return _rows(loss)
    if getattr(loss, "reduction", None) == "sum":
        msg = f'{type(loss).__name__}(reduction="sum") is not supported: what is measured is the mean; use reduction="mean"'
        raise LossError(msg)
    if isinstance(loss, nn.CrossEntropyLoss):
        return _cross_entropy(loss)
    if isinstance(loss, nn.MSELoss):
        return _rows(SquaredError())
    if callable(loss):
        return CallableTerms(on_copies(loss), xp, _row_gradient, _row_hessian, torch.Tensor)
    msg = f"loss of type {type(loss).__name__} is not known: pass a name, torch.nn.CrossEntropyLoss, or a callable"
    raise LossError(msg)


def _rows(loss: OutputLoss, class_axis: int = -1) -> RowTerms:
    return RowTerms(PositionLoss(loss, class_axis), xp, torch.Tensor.detach, _CLASSES_ON_AXIS_ONE)


def _cross_entropy(loss: nn.CrossEntropyLoss) -> RowTerms:
    if loss.label_smoothing > 0:
        msg = (
            "torch.nn.CrossEntropyLoss with label_smoothing is not supported: pass a callable such as "
            'functools.partial(torch.nn.functional.cross_entropy, label_smoothing=0.1, reduction="none")'
        )
        raise LossError(msg)
    weights = None if loss.weight is None else tuple(loss.weight.tolist())
    return _rows(CrossEntropy(class_weights=weights, ignore_index=loss.ignore_index), class_axis=1)


def _row_gradient(function: Any, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    leaf = outputs.detach().requires_grad_()
    return gradients(function(leaf, targets).sum(), [leaf])[0]


def _row_hessian(function: Any, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The output Hessian of each example, which autograd supplies column by column."""
    leaf = outputs.detach().requires_grad_()
    (gradient,) = gradients(function(leaf, targets).sum(), [leaf], create_graph=True)
    columns = gradient.reshape(len(outputs), -1).sum(dim=0)
    if not columns.requires_grad:
        return outputs.new_zeros(len(outputs), len(columns), len(columns))
    with second_derivative():
        rows = [torch.autograd.grad(c, leaf, retain_graph=True, materialize_grads=True)[0] for c in columns]
    hessian = torch.stack([row.reshape(len(outputs), -1) for row in rows], dim=1)
    if not torch.isfinite(hessian).all():
        raise infinite_output_hessian(getattr(function, "__name__", "of yours"))
    return hessian
