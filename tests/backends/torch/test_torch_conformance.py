"""The torch oracle passes all checks, in both precisions; what torch differentiates wrongly does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.testing import check_additivity, check_model_untouched, check_oracle
from zoo.architectures import ARCHITECTURES
from zoo.model_trace import Trace
from zoo.torch_networks import random_problem

NAMES = ("leaky_relu", "gelu", "batch_norm_2d", "depthwise", "transposed", "layer_norm", "tied", "unused_parameter")
SMALL = (*NAMES, "pruned", "embedding", "bare_parameters", "instance_norm", "scalar_parameter")
LARGE = ("attention", "encoder", "lstm")
QUICK = ("gelu", "transposed", "tied", "embedding", "lstm")
"""One for each way of differentiating a layer: the others pass in the slow tests, and have the dense derivatives always."""
CASES = [
    (n, dtype, seed) for n in (*SMALL, *LARGE) for dtype in ("float64", "float32") for seed in range(1 + (n in SMALL))
]


def built(name: str, dtype: str, examples: int = 6) -> tuple[nn.Module, Any, Any]:
    model, x, y = ARCHITECTURES[name].problem(examples)
    precision = getattr(torch, dtype)
    return model.to(precision), x.to(precision) if x.is_floating_point() else x, y


def failures(oracle: Any, seed: int = 0) -> dict[str, str]:
    return {r.check: r.message for r in check_oracle(oracle, seed=seed, on_fail="return") if r.status == "failed"}


def is_quick(name: str, dtype: str, seed: int) -> bool:
    return (name in QUICK and dtype == "float64" and seed == 0) or (name, dtype, seed) == ("gelu", "float32", 0)


@pytest.mark.parametrize(
    ("name", "dtype", "seed"),
    [pytest.param(*case, marks=[] if is_quick(*case) else [pytest.mark.slow]) for case in CASES],
)
def test_torch_oracles_pass(name: str, dtype: str, seed: int) -> None:
    model, x, y = built(name, dtype)
    found = failures(ish.oracle(model, (x, y), batch_size=4), seed)
    assert not found, f"{name} in {dtype} with seed {seed}: {found}"


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 60], ids=["initial", "trained"])
def test_single_precision_and_thousands_of_kinks_are_no_failure(steps: int) -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(288, 64), nn.ReLU(), nn.Linear(64, 5))
    x, y = torch.randn(64, 1, 12, 12), torch.randint(0, 5, (64,))
    train(model, x, y, steps)
    for seed in range(2):
        found = failures(ish.oracle(model, (x, y)), seed)
        assert not found, f"seed {seed}: {found}"


class BareWeightNorm(nn.Module):
    """``torch._weight_norm`` on plain parameters, which nothing but its derivatives gives away."""

    def __init__(self) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(5, 4))
        self.length = nn.Parameter(torch.rand(5, 1) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, torch._weight_norm(self.direction, self.length, 0))


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_wrong_second_derivative_of_weight_norm_is_found(dtype: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(BareWeightNorm(), nn.Tanh(), nn.Linear(5, 3)).to(getattr(torch, dtype))
    x = torch.randn(20, 4, dtype=getattr(torch, dtype))
    found = failures(ish.oracle(model, (x, torch.arange(20) % 3)))
    assert {"check_symmetry", "check_second_derivative"} <= found.keys(), f"only {found}"
    assert "check_gradient" not in found, f"its first derivative is right: {found}"
    assert "0.direction" in found["check_symmetry"], f"the wrong block is not named: {found['check_symmetry']}"


def test_padding_row_that_the_loss_depends_on_is_found() -> None:
    model, x, y = built("padded_embedding", "float64")
    found = failures(ish.oracle(model, (x, y)))
    assert "'table.weight'" in found["check_gradient"], f"the table is not named: {found}"


@pytest.mark.parametrize("weighted", [False, True])
def test_parts_of_the_data_add_up(weighted: bool) -> None:
    model, x, y = random_problem("cnn")
    class_weights = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    loss = nn.CrossEntropyLoss(weight=class_weights if weighted else None)
    parts = [ish.oracle(model, (x[s], y[s]), loss) for s in (slice(None, 3), slice(3, None))]
    weights = [float(class_weights[y[s]].sum()) if weighted else len(y[s]) for s in (slice(None, 3), slice(3, None))]
    figures = check_additivity(parts, weights, ish.oracle(model, (x, y), loss, batch_size=4))
    assert max(figures.values()) < 1e-12, f"{figures}"


@pytest.mark.parametrize("name", ["gelu", "batch_norm_2d"])
def test_model_is_untouched_however_a_method_ends(name: str) -> None:
    model, x, y = built(name, "float64")
    oracle = ish.oracle(model, (x, y), batch_size=4)
    figures = check_model_untouched(lambda: comparable(Trace(model).look()), oracle)
    assert figures["endings"] > 30, f"only {figures}"


def comparable(seen: dict[str, Any]) -> dict[str, Any]:
    return {name: raw(value) for name, value in seen.items()}


def raw(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    return value.tobytes() if isinstance(value, np.ndarray) else value
