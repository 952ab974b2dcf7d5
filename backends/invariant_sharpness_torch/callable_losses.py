"""A user's function of tensors as a loss: called on copies, which it may overwrite, and differentiated twice by autograd."""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from invariant_sharpness.adapters.data import map_leaves, take
from invariant_sharpness.adapters.loss_terms import FunctionTerms
from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import FunctionLoss
from invariant_sharpness_torch.batches import fresh
from invariant_sharpness_torch.half_precision import held
from invariant_sharpness_torch.products import gradients

_TEST_EXAMPLES = 8


class CallableTerms(FunctionTerms):
    """The terms of a function, which is tested when an oracle is built: whether it has derivatives at all."""

    def check(self, outputs: torch.Tensor, targets: Any, /) -> None:
        """Raise unless the function has one loss for each example, and two derivatives in the outputs.

        Raises
        ------
        LossError
            Says what it returned, or what it lacks.
        """
        super().check(outputs, targets)
        few = take((outputs, targets), 0, _TEST_EXAMPLES)
        with torch.enable_grad():
            leaf = few[0].detach().requires_grad_()
            losses = self.loss.function(leaf, few[1])
            if not losses.requires_grad:
                raise LossError(_CONSTANT.format(name=self.name))
            # What is marked as differentiable once leaves a mark in the graph only if its cotangents are differentiable.
            cotangents = torch.ones_like(losses, requires_grad=True)
            (slopes,) = gradients((losses * cotangents).sum(), [leaf], create_graph=True)
            if _is_once_differentiable(slopes):
                raise LossError(_ONE_DERIVATIVE.format(name=self.name, error="it is marked as once_differentiable"))
            try:
                gradients(slopes.sum(), [leaf])
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise LossError(_ONE_DERIVATIVE.format(name=self.name, error=error)) from error


_CONSTANT = (
    "loss {name!r} does not depend on the outputs, as far as torch can see: it is constant, or something in it (detach, torch.no_grad, "
    "item, numpy) cuts them off. Compute it from the outputs in torch's operations"
)
_ONE_DERIVATIVE = (
    "loss {name!r} has no second derivative in torch, and hence no curvature: {error}. Write it in operations that have one (for the CTC "
    "loss: the forward recursion with torch.logsumexp)"
)


def _is_once_differentiable(slopes: torch.Tensor) -> bool:
    """Whether torch would raise if it came to some node of the graph: it does not come there, and takes the derivative for zero."""
    waiting, seen = [slopes.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            if node.name() == "torch::autograd::Error":
                return True
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return False


def on_copies(loss: FunctionLoss) -> FunctionLoss:
    """Return the loss that hands copies of outputs and targets to its function, which it may overwrite."""

    @wraps(loss.function)
    def called(outputs: Any, targets: Any) -> torch.Tensor:
        losses: torch.Tensor = loss.function(outputs.clone(), map_leaves(fresh, targets))
        return losses

    called.__name__ = loss.name  # a module or a partial has none of its own
    return replace(loss, function=called)


def losses_at(
    function: Any, outputs: torch.Tensor, targets: Any, rows: npt.NDArray[np.intp]
) -> npt.NDArray[np.floating[Any]]:
    """Compute the losses of some examples on the host, in float64 unless the function has constants in another type."""
    z, t = outputs.detach()[rows], map_leaves(lambda leaf: leaf[rows], targets)
    try:
        losses = function(z.double(), map_leaves(_double, t))
    except (RuntimeError, TypeError):
        losses = function(z, t)
    found: npt.NDArray[np.floating[Any]] = held(losses.detach()).cpu().numpy()
    return found


def _double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor
