"""The losses that users give to the PyTorch backend: by name, of the core, torch's own modules, and any function of tensors."""

from __future__ import annotations

from typing import Any

import array_api_compat.torch as xp
import torch

from invariant_sharpness.adapters.data import infinite_output_hessian
from invariant_sharpness.adapters.loss_terms import FunctionTerms, LossTerms, RowTerms
from invariant_sharpness.adapters.sample_weights import SampleWeighted
from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import FunctionLoss, OutputLoss, PositionLoss, named_loss
from invariant_sharpness.losses.callables import check_order
from invariant_sharpness_torch.callable_losses import CallableTerms, losses_at, on_copies
from invariant_sharpness_torch.products import gradients, second_derivative
from invariant_sharpness_torch.torch_losses import of_torch

_CLASSES_ON_AXIS_ONE = "torch.nn.CrossEntropyLoss() as the loss if the classes stand on axis 1"


def resolve_loss(loss: Any) -> LossTerms:
    """Return the terms of the loss behind a name, a loss of the core, a loss of torch, or a callable.

    Raises
    ------
    LossError
        If it is none of these, or a torch loss that takes more than outputs and targets.
    """
    found = loss if isinstance(loss, (PositionLoss, FunctionLoss)) else _resolved(loss)
    if isinstance(found, PositionLoss):
        return RowTerms(found, xp, torch.Tensor.detach, _CLASSES_ON_AXIS_ONE)
    return function_terms(on_copies(found))


def weighted_loss(loss: Any) -> SampleWeighted:
    """Return the terms of a loss whose targets may have weights, as a user's own forward pass returns them."""
    return SampleWeighted(resolve_loss(loss), xp)


def _resolved(loss: Any) -> PositionLoss | FunctionLoss:
    if isinstance(loss, str):
        return PositionLoss(named_loss(loss))
    if isinstance(loss, OutputLoss):
        return PositionLoss(loss)
    if found := of_torch(loss):
        return found
    if callable(loss):
        check_order(loss)
        return FunctionLoss(loss)
    msg = f"loss of type {type(loss).__name__} is not known: pass a name, a loss of torch.nn, or a callable"
    raise LossError(msg)


def function_terms(loss: FunctionLoss) -> FunctionTerms:
    """Return the terms of a function of tensors."""
    return CallableTerms(loss, xp, _row_gradient, _row_hessian, torch.Tensor, losses_at)


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
