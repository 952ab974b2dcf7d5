"""Products, diagonals and traces as other libraries compute them, on the works and on any network.

They are not needed by anything else here:

    pip install --group peers
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import works

Batches = list[tuple[Any, Any]]


def curvlinops_hessian(network: Any, data: Batches) -> Any:
    """The Hessian of the mean loss as a linear operator of curvlinops."""
    import torch
    from curvlinops import HessianLinearOperator

    parameters = list(network.parameters())
    return HessianLinearOperator(network, torch.nn.CrossEntropyLoss(), parameters, data, check_deterministic=False)


def pyhessian_hessian(network: Any, data: Batches) -> Any:
    """The Hessian of the mean loss as PyHessian has it."""
    import torch
    from pyhessian import hessian

    first, rest = data[0], data[1:]
    criterion = torch.nn.CrossEntropyLoss()
    if not rest:
        return hessian(network, criterion, data=first, cuda=False)
    for x, y in data:
        criterion(network(x), y).backward()
    return hessian(network, criterion, dataloader=data, cuda=False)


def pyhessian_density(hessian: Any, steps: int, probes: int) -> Any:
    """Ritz values and weights; version 0.1 calls ``torch.eig``, which torch has removed, so that it needs a stand-in."""
    import torch

    def eig(matrix: torch.Tensor, **_options: object) -> tuple[torch.Tensor, torch.Tensor]:
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], dim=1), vectors

    with mock.patch.object(torch, "eig", eig):
        return hessian.density(iter=steps, n_v=probes)


def curvlinops_block(work: str, count: int) -> Callable[[], object]:
    """So many products at once by curvlinops."""
    import torch

    hessian = curvlinops_hessian(works.torch_network(work), works.torch_batches(work))
    vectors = torch.randn(hessian.shape[1], count, generator=torch.Generator().manual_seed(0))
    return lambda: hessian @ vectors


def pyhessian_product(work: str) -> Callable[[], object]:
    """One product by PyHessian."""
    import torch

    hessian = pyhessian_hessian(works.torch_network(work), works.torch_batches(work))
    vector = [torch.randn(p.shape) for p in hessian.params]
    return lambda: hessian.dataloader_hv_product(vector)


def backpack_diagonal(work: str) -> Callable[[], object]:
    """The exact Gauss-Newton diagonal by BackPACK, batch by batch."""
    import torch
    from backpack import backpack, extend
    from backpack.extensions import DiagGGNExact

    network = extend(works.torch_network(work))
    loss = extend(torch.nn.CrossEntropyLoss())
    data = works.torch_batches(work)

    def diagonal() -> object:
        total = [torch.zeros_like(parameter) for parameter in network.parameters()]
        for x, y in data:
            network.zero_grad()
            with backpack(DiagGGNExact()):
                loss(network(x), y).backward()
            for sums, parameter in zip(total, network.parameters(), strict=True):
                sums += parameter.diag_ggn_exact * (len(x) / works.EXAMPLES[work])
        return total

    return diagonal


def jax_product(apply: Any, parameters: Any) -> Callable[[Any, Batches], Any]:
    """The product with a flat vector that is handed to matfree: forward over reverse mode, the sum over some batches."""
    import jax
    from jax.flatten_util import ravel_pytree

    point, unravel = ravel_pytree(parameters)

    def product(vector: Any, data: Batches) -> Any:
        def loss(flat: Any) -> Any:
            return sum(works.jax_loss(apply(unravel(flat), x), y) for x, y in data) / sum(len(y) for _, y in data)

        return jax.jvp(jax.grad(loss), (point,), (vector,))[1]

    return product
