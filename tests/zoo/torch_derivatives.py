"""Losses by torch itself, and dense derivatives that nothing in the library has a part in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """One softmax cross-entropy per example, by torch itself."""
    return nn.functional.cross_entropy(outputs, labels, reduction="none")


def normalized_cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Equations (20)-(22), written down as they are printed."""
    mean = outputs.mean(dim=1, keepdim=True)
    deviation = ((outputs - mean) ** 2).mean(dim=1, keepdim=True).sqrt()
    return nn.functional.cross_entropy(outputs / deviation, labels, reduction="none")


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "normalized_cross_entropy": normalized_cross_entropy}


def dense_hessian(model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Loss) -> dict[str, dict[str, torch.Tensor]]:
    """The blocks of the Hessian of the mean loss, each as a matrix."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def mean_loss(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return loss(functional_call(model, values, (x,)), y).mean()

    blocks = hessian(mean_loss)(parameters)
    return {
        a: {b: blocks[a][b].reshape(parameters[a].numel(), parameters[b].numel()) for b in parameters}
        for a in parameters
    }


def dense_matrix(blocks: dict[str, dict[str, torch.Tensor]]) -> torch.Tensor:
    """The whole Hessian."""
    return torch.cat([torch.cat(list(row.values()), dim=1) for row in blocks.values()])


def dense_diagonal(model: nn.Module, blocks: dict[str, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The diagonal of the Hessian, in the parameters' shapes."""
    return {name: blocks[name][name].diagonal().reshape(p.shape) for name, p in model.named_parameters()}


def example_gradients(model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Loss) -> dict[str, torch.Tensor]:
    """The gradient of the loss of every example."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    return jacrev(lambda values: loss(functional_call(model, values, (x,)), y))(parameters)


def differenced_hessian(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Loss, step: float = 2.0**-9
) -> dict[str, dict[str, torch.Tensor]]:
    """The blocks of the Hessian by differences of the gradient, accurate to the eighth power of ``step``."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    vector = torch.cat([p.reshape(-1) for p in parameters.values()])
    sizes = [p.numel() for p in parameters.values()]

    def gradient(point: torch.Tensor) -> torch.Tensor:
        parts = [part.reshape(p.shape) for part, p in zip(point.split(sizes), parameters.values(), strict=True)]
        values = {name: part.detach().requires_grad_() for name, part in zip(parameters, parts, strict=True)}
        mean = loss(functional_call(model, values, (x,)), y).mean()
        return torch.cat(
            [g.reshape(-1) for g in torch.autograd.grad(mean, list(values.values()), materialize_grads=True)]
        )

    weights = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
    matrix = torch.stack(
        [
            sum(w * (gradient(vector + k * e) - gradient(vector - k * e)) for k, w in weights.items()) / step
            for e in step * torch.eye(len(vector), dtype=vector.dtype)
        ]
    )
    return {
        a: dict(zip(parameters, row.split(sizes, dim=1), strict=True))
        for a, row in zip(parameters, matrix.split(sizes), strict=True)
    }
