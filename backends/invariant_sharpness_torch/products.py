"""Products with derivatives, out of autograd's graphs: reverse over reverse, which every module has that can be differentiated twice."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from invariant_sharpness.adapters.loss_terms import LossTerms
from invariant_sharpness.adapters.sample_weights import curvature_product
from invariant_sharpness.errors import ModelError

Tensors = list[torch.Tensor]


def gradients(value: Any, sources: Sequence[torch.Tensor], *, create_graph: bool = False) -> Tensors:
    """Derivatives of a scalar in all sources; zero for those that it does not depend on."""
    if not isinstance(value, torch.Tensor) or not value.requires_grad:
        return [torch.zeros_like(source) for source in sources]
    return list(
        torch.autograd.grad(value, sources, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    )


def hessian_products(
    value: torch.Tensor, sources: Sequence[torch.Tensor], vectors: Sequence[Tensors]
) -> Iterator[Tensors]:
    """The Hessian of a scalar times each of the vectors; the gradient's graph is made once, for all of them."""
    slopes = gradients(value, sources, create_graph=True)
    for number, vector in enumerate(vectors, start=1):
        with second_derivative():
            yield _pulled_back(slopes, sources, vector, keep=number < len(vectors))


def hessian_operator(
    value: torch.Tensor, sources: Sequence[torch.Tensor]
) -> Callable[[Sequence[Tensors]], Iterator[Tensors]]:
    """The Hessian of a scalar as a function of vectors, which holds the gradient's graph."""
    slopes = gradients(value, sources, create_graph=True)

    def products(vectors: Sequence[Tensors]) -> Iterator[Tensors]:
        for vector in vectors:
            with second_derivative():
                yield _pulled_back(slopes, sources, vector, keep=True)

    return products


def _pulled_back(slopes: Tensors, sources: Sequence[torch.Tensor], vector: Tensors, *, keep: bool) -> Tensors:
    """The derivative of ``slopes . vector``, for those slopes that depend on anything."""
    pairs = [(slope, along) for slope, along in zip(slopes, vector, strict=True) if slope.requires_grad]
    if not pairs:
        return [torch.zeros_like(source) for source in sources]
    moving, along = zip(*pairs, strict=True)
    return list(
        torch.autograd.grad(moving, sources, along, retain_graph=keep, allow_unused=True, materialize_grads=True)
    )


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
        return _pulled_back(slopes, [cotangents], directions, keep=False)[0]


def gauss_newton_product(
    outputs: torch.Tensor, targets: torch.Tensor, loss: LossTerms, sources: Sequence[torch.Tensor], directions: Tensors
) -> tuple[Tensors, torch.Tensor]:
    r""":math:`\sum_n w_n J_n^T \Lambda_n J_n v` for the outputs of a batch, and the weights; four passes through the network."""
    along = jacobian_product(outputs, sources, directions)
    curved, weights = _curved(outputs.detach(), targets, loss, along)
    return gradients((outputs * curved).sum(), sources), weights


def residual_products(
    outputs: torch.Tensor,
    targets: torch.Tensor,
    loss: LossTerms,
    sources: Sequence[torch.Tensor],
    vectors: Sequence[Tensors],
) -> tuple[Iterator[Tensors], torch.Tensor]:
    """The Hessian in the sources of the outputs along their constant cotangents, times each of the vectors, and the weights of the rows."""
    cotangents, weights = output_cotangents(outputs, targets, loss)
    return hessian_products((outputs * cotangents).sum(), sources, vectors), weights


def output_cotangents(
    outputs: torch.Tensor, targets: torch.Tensor, loss: LossTerms
) -> tuple[torch.Tensor, torch.Tensor]:
    """The derivatives of the sum of the weighted losses in the outputs, as constants, and the weights of the rows."""
    leaf = outputs.detach().requires_grad_()
    losses, weights = loss.values(leaf, targets)
    (cotangents,) = gradients((losses * weights).sum(), [leaf])
    return cotangents.detach(), weights.detach()


def _curved(
    outputs: torch.Tensor, targets: torch.Tensor, loss: LossTerms, along: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weighted output Hessian times the vectors, in closed form where the loss has one, and the weights."""
    closed = curvature_product(loss, outputs, targets, along)
    if closed is not None:
        with torch.no_grad():
            return closed, loss.values(outputs, targets)[1]
    leaf = outputs.requires_grad_()
    losses, weights = loss.values(leaf, targets)
    ((curved,),) = hessian_products((losses * weights).sum(), [leaf], [[along]])
    return curved, weights


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
