"""Losses on torch tensors: those of the core, torch's own modules, and any callable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import array_api_compat.torch as xp
import torch
from torch import nn

from invariant_sharpness.errors import DataError, LossError
from invariant_sharpness.losses import CrossEntropy, OutputLoss, SquaredError, named_loss

Term = tuple[torch.Tensor, torch.Tensor]
"""Signed weights ``s`` of shape ``(n,)`` and cotangents of the shape of the outputs."""


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


@dataclass(frozen=True, slots=True)
class RowLoss:
    """A loss of the core on rows of K outputs; all axes between the first and the class axis are positions.

    Every position counts as one term of the mean, as tokens do.

    Parameters
    ----------
    loss
        Of rows of outputs.
    class_axis
        1 in torch's own cross-entropy, -1 everywhere else.
    """

    loss: OutputLoss
    class_axis: int = -1

    @property
    def name(self) -> str:
        return self.loss.name

    def check(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> None:
        rows, labels = self._rows(outputs, targets)
        self.loss.check(xp, rows, labels)
        self.loss.weights(xp, rows, labels)

    def values(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> Term:
        rows, labels = self._rows(outputs, targets)
        return self.loss.values(xp, rows, labels), self.loss.weights(xp, rows.detach(), labels)

    def gradient_terms(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> Iterator[Term]:
        rows, labels = self._rows(outputs, targets)
        gradient = self.loss.gradient(xp, rows, labels)
        yield from self._terms(outputs, self.loss.weights(xp, rows, labels)[:, None], gradient[:, :, None])

    def curvature_terms(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> Iterator[Term]:
        rows, labels = self._rows(outputs, targets)
        signs, vectors = self.loss.hessian_factors(xp, rows, labels)
        yield from self._terms(outputs, signs * self.loss.weights(xp, rows, labels)[:, None], vectors)

    def _rows(self, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if isinstance(self.loss, SquaredError) and targets.ndim > 0:
            return outputs.reshape(len(outputs), -1), targets.reshape(len(targets), -1)
        if outputs.ndim < 2:
            msg = (
                f"outputs have shape {tuple(outputs.shape)}, but {self.name} needs one row of outputs per example, "
                f"(n, K): remove the squeeze() or the mean over examples from the model"
            )
            raise LossError(msg)
        rows = outputs.movedim(self.class_axis, -1)
        if targets.numel() != rows[..., 0].numel():
            msg = (
                f"outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}, but {self.name} needs one class "
                f"label for each row of K outputs: take argmax(-1) of one-hot targets, and torch.nn.CrossEntropyLoss() "
                f"as the loss if the classes stand on axis 1"
            )
            raise DataError(msg)
        return rows.reshape(-1, rows.shape[-1]), targets.reshape(-1)

    def _terms(self, outputs: torch.Tensor, signs: torch.Tensor, vectors: torch.Tensor) -> Iterator[Term]:
        """One term per position and factor: rows of other positions get no cotangent."""
        examples = len(outputs)
        positions = len(signs) // examples
        signs = signs.reshape(examples, positions, -1)
        vectors = vectors.reshape(examples, positions, *vectors.shape[1:])
        moved = outputs.movedim(self.class_axis, -1)
        for position in range(positions):
            for factor in range(signs.shape[2]):
                cotangent = torch.zeros(vectors.shape[:3], dtype=outputs.dtype, device=outputs.device)
                cotangent[:, position] = vectors[:, position, :, factor]
                yield signs[:, position, factor], cotangent.reshape(moved.shape).movedim(-1, self.class_axis)


@dataclass(frozen=True, slots=True)
class CallableLoss:
    """A user's function ``(outputs, targets) -> one loss per example``; every example has weight one."""

    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def check(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> None:
        losses = self.function(outputs, targets)
        expected = (len(outputs),)
        if not isinstance(losses, torch.Tensor) or tuple(losses.shape) != expected:
            shape = tuple(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
            msg = (
                f"loss {self.name!r} returned {shape} for {len(outputs)} examples, but it has to return one loss per example, "
                f'shape {expected}: use reduction="none", and sum or average over all axes but the first'
            )
            raise LossError(msg)

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
