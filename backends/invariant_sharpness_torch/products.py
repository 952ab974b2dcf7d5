"""Products with derivatives, out of autograd's graphs: reverse over reverse, which every module has that can be differentiated twice."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from invariant_sharpness.errors import ModelError
from invariant_sharpness_torch.losses import TorchLoss

Tensors = list[torch.Tensor]


def gradients(value: Any, sources: Sequence[torch.Tensor], *, create_graph: bool = False) -> Tensors:
    """Derivatives of a scalar in all sources; zero for those that it does not depend on."""
    if not isinstance(value, torch.Tensor) or not value.requires_grad:
        return [torch.zeros_like(source) for source in sources]
    return list(
        torch.autograd.grad(value, sources, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    )


def hessian_product(value: torch.Tensor, sources: Sequence[torch.Tensor], directions: Tensors) -> Tensors:
    """The Hessian of a scalar times the directions."""
    slopes = gradients(value, sources, create_graph=True)
    with second_derivative():
        return gradients(inner_product(slopes, directions), sources)


def block_product(slope: torch.Tensor, direction: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """A diagonal block of the Hessian times the direction, from the slope's graph, which is kept for other blocks."""
    if not slope.requires_grad:
        return torch.zeros_like(slope)
    with second_derivative():
        (product,) = torch.autograd.grad(
            (slope * direction).sum(), source, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    return product


def jacobian_product(values: torch.Tensor, sources: Sequence[torch.Tensor], directions: Tensors) -> torch.Tensor:
    """``J v``, the derivatives of all values along the directions, as the derivative of ``(J^T c) . v`` in c."""
    cotangents = torch.ones_like(values, requires_grad=True)
    slopes = gradients((values * cotangents).sum(), sources, create_graph=True)
    with second_derivative():
        return gradients(inner_product(slopes, directions), [cotangents])[0]


def gauss_newton_product(
    outputs: torch.Tensor, targets: torch.Tensor, loss: TorchLoss, sources: Sequence[torch.Tensor], directions: Tensors
) -> Tensors:
    r""":math:`\sum_n w_n J_n^T \Lambda_n J_n v` for the outputs of a batch; four passes through the network."""
    along = jacobian_product(outputs, sources, directions)
    leaf = outputs.detach().requires_grad_()
    losses, weights = loss.values(leaf, targets)
    (curved,) = hessian_product((losses * weights).sum(), [leaf], [along])
    return gradients((outputs * curved).sum(), sources)


def inner_product(slopes: Tensors, directions: Tensors) -> Any:
    """The sum over all slopes that depend on anything; a zero, which is no tensor, if none does."""
    return sum((slope * v).sum() for slope, v in zip(slopes, directions, strict=True) if slope.requires_grad)


@contextmanager
def second_derivative() -> Generator[None]:
    """Say what to do where the backward pass of an operation cannot itself be differentiated."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        msg = (
            f"torch cannot differentiate this model twice: {error} Replace that operation by one with a second "
            f"derivative; fused and custom kernels often have a plain version"
        )
        raise ModelError(msg) from error
