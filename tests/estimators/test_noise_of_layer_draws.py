"""The noise of draws at layers: its variance in closed form, and how it falls with the number of examples; and intervals of draws at layers and at operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import invariant_sharpness as ish
from invariant_sharpness.estimators import GroupDiagonal
from zoo.torch_derivatives import cross_entropy, dense_hessian

DRAWS = 400
NAME = "0.weight"


def problem(copies: int = 1) -> tuple[Any, Any, Any]:
    """Five examples, each as often as asked for."""
    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 6), torch.nn.GELU(), torch.nn.Linear(6, 5), torch.nn.SiLU(), torch.nn.Linear(5, 2)
    x = torch.randn(5, 3, dtype=torch.float64).repeat(copies, 1)
    return torch.nn.Sequential(*layers).double(), x, torch.tensor([0, 1, 1, 0, 1]).repeat(copies)


def errors(model: Any, x: Any, y: Any) -> tuple[np.ndarray, Any]:
    """What single draws are off by, of shape (draws, rows, columns), and the units of the layer."""
    oracle: Any = ish.oracle(model, (x, y))
    at, units = oracle.parameters, oracle.layer_units(oracle.parameters)
    exact = oracle.residual_diagonal(at, units)[NAME]
    found = [oracle.sampled_residual_diagonal(at, units, range(k, k + 1), 0)[NAME] - exact for k in range(DRAWS)]
    return torch.stack(found).numpy(), units[NAME]


@pytest.mark.slow
def test_variance_of_a_draw_is_its_closed_form() -> None:
    r""":math:`N^{-2} \sum_n x_{nj}^4 \sum_{l \ne i} K_{n, il}^2 r_l^2 / r_i^2`, with K from automatic differentiation."""
    model, x, y = problem()
    first, above = model[0], model[1:]
    cotangents = torch.softmax(model(x), 1).detach() - torch.nn.functional.one_hot(y, 2)
    curvature = torch.stack(
        [torch.func.hessian(lambda a, c=c: above(a) @ c)(a) for a, c in zip(first(x).detach(), cotangents, strict=True)]
    )
    squares, units = errors(model, x, y)
    r = torch.tensor(units.scale)
    others = curvature**2 * (r[None, :] / r[:, None]) ** 2 * (1 - torch.eye(6))
    expected = torch.einsum("nj,nil->ij", x**4, others).detach().numpy() / len(x) ** 2
    found = (squares**2).mean(axis=0)
    ratio = found.sum() / expected.sum()
    assert 0.8 < ratio < 1.25, f"the variance over {DRAWS} draws is {ratio:.3f} times the closed form"
    assert np.allclose(found, expected, rtol=0.6), f"{found / expected}"


@pytest.mark.slow
def test_error_falls_with_the_root_of_the_number_of_examples() -> None:
    """Each example four and sixteen times has the same diagonal, but as many more signs."""
    sizes = [float(np.sqrt((errors(*problem(copies))[0] ** 2).mean())) for copies in (1, 4, 16)]
    slope = np.polyfit(np.log([1, 4, 16]), np.log(sizes), 1)[0]
    assert abs(slope + 0.5) < 0.05, f"errors {sizes} of 5, 20 and 80 examples fall with the power {slope:.3f}"


@pytest.mark.slow
@pytest.mark.parametrize("metric", [ish.parameter_normalized_sharpness, ish.normalized_sharpness])
def test_interval_of_a_clipped_sum_holds_the_truth_and_is_narrow(metric: Any) -> None:
    torch.manual_seed(1)
    layers = torch.nn.Linear(3, 30), torch.nn.GELU(), torch.nn.Linear(30, 30), torch.nn.GELU(), torch.nn.Linear(30, 2)
    model, x = torch.nn.Sequential(*layers).double(), torch.randn(20, 3, dtype=torch.float64)
    oracle = ish.oracle(model, (x, torch.arange(20) % 2))
    truth = metric(oracle, diagonal=ish.HessianDiagonal(_columns(model, x, torch.arange(20) % 2))).value
    for seed in range(4):
        found = metric(oracle, probes=6, seed=seed)
        low, high = found.interval()
        assert "layer draws" in found.method or "draws at layers" in found.method, found.method
        assert low <= truth <= high, f"{found}: from {low} to {high}, but it is {truth}"
        assert low > 0.8 * truth, f"{found}: from {low}, where the truth is {truth}"


def _columns(model: Any, x: Any, y: Any) -> dict[str, GroupDiagonal]:
    hessian = dense_hessian(model, x, y, cross_entropy)
    parts = {name: hessian[name][name].diagonal().reshape(p.shape) for name, p in model.named_parameters()}
    return {name: GroupDiagonal(part.numpy(), "exact") for name, part in parts.items()}


@pytest.mark.slow
def test_intervals_of_draws_at_operations_hold_the_truth() -> None:
    """At least as often as they say: what is clipped is covered from both sides."""
    torch.manual_seed(1)
    layers = torch.nn.Conv2d(1, 6, 3), torch.nn.SiLU(), torch.nn.Conv2d(6, 4, 3), torch.nn.GELU(), torch.nn.Flatten()
    model, x = torch.nn.Sequential(*layers, torch.nn.Linear(64, 2)).double(), torch.randn(30, 1, 8, 8).double()
    oracle = ish.oracle(model, (x, torch.arange(30) % 2))
    truth = ish.normalized_sharpness(
        oracle, diagonal=ish.HessianDiagonal(_columns(model, x, torch.arange(30) % 2))
    ).value
    held = []
    for seed in range(200):
        found = ish.normalized_sharpness(oracle, budget=50, seed=seed)
        low, high = found.interval()
        assert "draws at operations" in found.method, found.method
        assert low > 0.5 * truth, f"{found}: from {low}, where the truth is {truth}"
        held.append(low <= truth <= high)
    assert np.mean(held) >= 0.92, f"{np.mean(held):.1%} of the intervals hold {truth}"
