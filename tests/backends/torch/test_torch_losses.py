"""The losses against torch's own, differentiated by torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat.torch as xp
import pytest
import torch
from torch.func import hessian, jacrev, vmap

from invariant_sharpness.losses import CrossEntropy, NormalizedCrossEntropy, named_loss
from zoo import torch_derivatives
from zoo.seeds import seeds


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.mse_loss(outputs, targets, reduction="none").mean(dim=1)


REFERENCES: dict[str, Callable[[Any, Any], Any]] = torch_derivatives.LOSSES | {"mse": squared_error}


def random_batch(name: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = 4 * torch.randn((8, 6), dtype=torch.float64, generator=generator)
    if name == "mse":
        return z, torch.randn((8, 6), dtype=torch.float64, generator=generator)
    return z, torch.randint(0, 6, (8,), generator=generator)


def one_example(name: str) -> Callable[[Any, Any], Any]:
    return lambda z, y: REFERENCES[name](z[None], y[None])[0]


def check(value: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    error = float((value - expected).abs().max() / expected.abs().max().clamp(min=1))
    assert error <= 1e-12, f"{what} is off by {error:.1e} from torch: {value} and not {expected}"


@pytest.mark.parametrize("name", REFERENCES)
@seeds(3)
def test_values_and_derivatives_are_those_of_autograd(name: str, seed: int) -> None:
    z, y = random_batch(name, seed)
    loss, reference = named_loss(name), one_example(name)
    check(loss.values(xp, z, y), REFERENCES[name](z, y), f"{name}")
    check(loss.gradient(xp, z, y), vmap(jacrev(reference))(z, y), f"gradient of {name}")
    check(loss.hessian(xp, z, y), vmap(hessian(reference))(z, y), f"Hessian of {name}")
    weights, vectors = loss.hessian_factors(xp, z, y)
    product = torch.einsum("nr,nkr,nlr->nkl", weights, vectors, vectors)
    check(product, vmap(hessian(reference))(z, y), f"product of the factors of {name}")


@pytest.mark.parametrize("name", REFERENCES)
def test_autograd_differentiates_the_values_themselves(name: str) -> None:
    z, y = random_batch(name, 9)
    loss = named_loss(name)
    gradient = jacrev(lambda outputs: loss.values(xp, outputs, y).sum())(z)
    check(gradient, loss.gradient(xp, z, y), f"torch's gradient of the values of {name}")


@pytest.mark.parametrize("ignored", [-100, 2])
@pytest.mark.parametrize("kind", [CrossEntropy, NormalizedCrossEntropy])
def test_weighted_mean_is_that_of_torch(kind: Any, ignored: int) -> None:
    z, y = random_batch("cross_entropy", 1)
    y[3] = y[5] = ignored
    class_weights = (0.5, 2.0, 0.0, 1.0, 3.0, 0.25)
    loss = kind(class_weights=class_weights, ignore_index=ignored)
    weights = loss.weights(xp, z, y)
    mean = (weights * loss.values(xp, z, y)).sum() / weights.sum()
    deviation = 1 if kind is CrossEntropy else z.std(dim=1, correction=0, keepdim=True)
    expected = torch.nn.functional.cross_entropy(
        z / deviation, y, weight=torch.tensor(class_weights, dtype=torch.float64), ignore_index=ignored
    )
    check(mean, expected, f"weighted mean of {loss.name} with ignore_index={ignored}")
