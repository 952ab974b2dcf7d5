"""Measures of sharpness as other packages compute them.

    pip install --group peers

They are for `public_measures.py`, which certifies them.
"""

from __future__ import annotations

from collections.abc import Callable

import curvlinops
import peers
import torch
from loss_landscapes import random_line
from loss_landscapes.metrics import Loss
from torch import nn


def pyhessian_trace(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    samples = peers.pyhessian_hessian(network, [(x, y)]).trace()
    return float(sum(samples) / len(samples))


def pyhessian_eigenvalue(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return float(peers.pyhessian_hessian(network, [(x, y)]).eigenvalues()[0][0])


def curvlinops_hutchinson_trace(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return float(curvlinops.hutchinson_trace(peers.curvlinops_hessian(network, [(x, y)]), 64))


def curvlinops_hutchpp_trace(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return float(curvlinops.hutchpp_trace(peers.curvlinops_hessian(network, [(x, y)]), 66))


def curvlinops_xtrace(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return float(curvlinops.xtrace(peers.curvlinops_hessian(network, [(x, y)]), 64))


def curvlinops_largest_of_diagonal(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return float(curvlinops.hutchinson_diag(peers.curvlinops_hessian(network, [(x, y)]), 64).max())


def loss_landscapes_rise(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """At the end of a random line with filter normalization, a tenth of the parameters' norm away."""
    loss = Loss(nn.CrossEntropyLoss(), x, y)
    losses = random_line(network, loss, distance=10, steps=10, normalization="filter", deepcopy_model=True)
    return float(losses[-1] - nn.functional.cross_entropy(network(x), y))


CLAIMS: dict[Callable[[nn.Module, torch.Tensor, torch.Tensor], float], set[str]] = {
    pyhessian_trace: set(),
    pyhessian_eigenvalue: set(),
    curvlinops_hutchinson_trace: set(),
    curvlinops_hutchpp_trace: set(),
    curvlinops_xtrace: set(),
    curvlinops_largest_of_diagonal: set(),
    loss_landscapes_rise: {"layer"},
}
"""What each is said to survive. Empty where nothing is said."""
