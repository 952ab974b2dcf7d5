"""Losses on torch tensors: those of the core, torch's own modules, and any callable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import array_api_compat.torch as xp
import torch
from torch import nn

from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import (
    CrossEntropy,
    FunctionLoss,
    OutputLoss,
    PositionLoss,
    SquaredError,
    convex,
    named_loss,
)
from invariant_sharpness.prng import Draws, output_signs

Term = tuple[torch.Tensor, torch.Tensor]
"""Signed weights ``s`` of shape ``(n,)`` and cotangents of the shape of the outputs."""

_CLASSES_ON_AXIS_ONE = "torch.nn.CrossEntropyLoss() as the loss if the classes stand on axis 1"


class TorchLoss(Protocol):
    """A loss of outputs whose first axis counts examples."""

    @property
    def name(self) -> str:
        """For messages and reports."""
        ...

    def check(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> None:
        """Raise an error that says what is wrong with these outputs or targets."""
        ...

    def values(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> Term:
        """Losses and their weights in the mean, one per row."""
        ...

    def gradient_terms(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> Iterator[Term]:
        """Terms such that the second moment of the gradients is the sum of ``s_n (J_n^T v_n)^2``."""
        ...

    def curvature_terms(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> Iterator[Term]:
        """Terms such that the Gauss-Newton diagonal is the sum of ``s_n (J_n^T v_n)^2``."""
        ...

    @property
    def samples_outputs(self) -> bool:
        """Whether there are random cotangents."""
        ...

    def sampled_terms(self, outputs: torch.Tensor, targets: torch.Tensor, draws: Draws, /) -> Iterator[Term]:
        """Random terms, one for each draw, with the mean of ``curvature_terms``."""
        ...


def resolve_loss(loss: Any) -> TorchLoss:
    """The loss behind a name, a core loss, ``nn.CrossEntropyLoss``, ``nn.MSELoss`` or a callable.

    Raises
    ------
    LossError
        If it is none of these, or a torch loss with an option that is not supported.
    """
    if isinstance(loss, str):
        return RowLoss(named_loss(loss))
    if isinstance(loss, OutputLoss):
        return RowLoss(loss)
    if getattr(loss, "reduction", None) == "sum":
        msg = f'{type(loss).__name__}(reduction="sum") is not supported: what is measured is the mean; use reduction="mean"'
        raise LossError(msg)
    if isinstance(loss, nn.CrossEntropyLoss):
        return _cross_entropy(loss)
    if isinstance(loss, nn.MSELoss):
        return RowLoss(SquaredError())
    if callable(loss):
        return CallableLoss(cast("Callable[[torch.Tensor, torch.Tensor], torch.Tensor]", loss))
    msg = f"loss of type {type(loss).__name__} is not known: pass a name, torch.nn.CrossEntropyLoss, or a callable"
    raise LossError(msg)


class RowLoss(PositionLoss):
    """A loss of the core on torch tensors."""

    def check(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> None:
        self.check_rows(xp, outputs, targets, otherwise=_CLASSES_ON_AXIS_ONE)

    def values(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> Term:
        return self.row_values(xp, outputs, targets), self.row_weights(xp, outputs.detach(), targets)

    def gradient_terms(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> Iterator[Term]:
        return self.terms(xp, self.gradient_rows(xp, outputs, targets), outputs)

    def curvature_terms(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> Iterator[Term]:
        return self.terms(xp, self.curvature_rows(xp, outputs, targets), outputs)

    def sampled_terms(self, outputs: torch.Tensor, targets: torch.Tensor, draws: Draws, /) -> Iterator[Term]:
        rows, _ = self.rows(xp, outputs, targets)
        for number in draws.numbers:
            signs = output_signs(draws.seed, number, draws.start, *rows.shape)
            yield (
                outputs.new_ones(len(outputs)),
                self.sampled_cotangents(xp, outputs, targets, torch.as_tensor(signs).to(outputs)),
            )


class CallableLoss(FunctionLoss):
    """A user's function of torch tensors."""

    def check(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> None:
        self.check_losses(self.function(outputs, targets), torch.Tensor, len(outputs))

    def values(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> Term:
        losses = self.function(outputs, targets)
        return losses, torch.ones_like(losses)

    def gradient_terms(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> Iterator[Term]:
        leaf = outputs.detach().requires_grad_()
        losses = self.function(leaf, targets)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        yield torch.ones_like(losses), gradient

    def curvature_terms(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> Iterator[Term]:
        """Eigenvectors of the output Hessian, which autograd supplies column by column."""
        eigenvalues, eigenvectors = torch.linalg.eigh(self._hessian(outputs, targets))
        for k in range(eigenvalues.shape[1]):
            yield eigenvalues[:, k], eigenvectors[:, :, k].reshape(outputs.shape)

    @property
    def samples_outputs(self) -> bool:
        return False

    def sampled_terms(self, outputs: torch.Tensor, targets: torch.Tensor, draws: Draws, /) -> Iterator[Term]:
        convex(self)  # says that it is not
        return iter(())

    def _hessian(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        leaf = outputs.detach().requires_grad_()
        loss = self.function(leaf, targets).sum()
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
        columns = gradient.reshape(len(outputs), -1).sum(dim=0)
        if not columns.requires_grad:
            return outputs.new_zeros(len(outputs), len(columns), len(columns))
        rows = [torch.autograd.grad(c, leaf, retain_graph=True, materialize_grads=True)[0] for c in columns]
        return torch.stack([row.reshape(len(outputs), -1) for row in rows], dim=1)


def _cross_entropy(loss: nn.CrossEntropyLoss) -> RowLoss:
    if loss.label_smoothing > 0:
        msg = (
            "torch.nn.CrossEntropyLoss with label_smoothing is not supported: pass a callable such as "
            'functools.partial(torch.nn.functional.cross_entropy, label_smoothing=0.1, reduction="none")'
        )
        raise LossError(msg)
    weights = None if loss.weight is None else tuple(loss.weight.tolist())
    return RowLoss(CrossEntropy(class_weights=weights, ignore_index=loss.ignore_index), class_axis=1)
