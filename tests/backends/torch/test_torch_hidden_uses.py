"""Parameters that are used again where the first examples do not show it, by number or by derivative."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import invariant_sharpness as ish
from invariant_sharpness.protocol import ResidualDiagonalOracle, capability
from zoo.architectures import Composed
from zoo.torch_derivatives import cross_entropy, example_gradients

Tensor = torch.Tensor


def squares_error(model: nn.Module, twin: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> float:
    """How far mean squared gradients are from those of a loop over the examples of a twin, relative to the largest."""
    oracle: Any = ish.oracle(model, (x, y), batch_size=batch_size)
    found = oracle.gradient_second_moment(oracle.parameters)
    expected = {name: g.square().mean(0) for name, g in example_gradients(twin, x, y, cross_entropy).items()}
    largest = max(float(e.max()) for e in expected.values())
    return max(float((found[name] - e).abs().max()) for name, e in expected.items()) / largest


def used_again(model: Any, x: Tensor) -> Tensor:
    """Examples whose first entry is large use the first layer's weight once more."""
    once = model.last(functional.gelu(model.first(x)))
    return once + (x[:, :1] > 5) * functional.linear(x, model.first.weight).tanh()[:, :3]


def pair(forward: Any) -> Any:
    torch.manual_seed(0)
    return Composed(forward, first=nn.Linear(4, 4), last=nn.Linear(4, 3)).double()


@pytest.mark.parametrize("batch_size", [4, 12])
def test_weight_that_only_later_examples_use_again_takes_the_general_path(batch_size: int) -> None:
    model, x, y = pair(used_again), torch.randn(12, 4, dtype=torch.float64), torch.arange(12) % 3
    x[8:, 0] = 6
    error = squares_error(model, model, x, y, batch_size)
    assert error <= 1e-13, f"squares are off by {error:.1e}"


REGIONS: dict[str, Any] = {
    "the module twice": lambda model, x: functional.gelu(model.first(functional.gelu(model.first(x)))),
    "its weight in functions": lambda model, x: (x @ model.first.weight.T).tanh() @ model.first.weight + x,
    "a module and a function": lambda model, x: functional.linear(model.first(x).tanh(), model.first.weight[:, :]),
    "a copy of its weight": lambda model, x: model.first(x).sigmoid() @ model.first.weight.clone(),
}


@pytest.mark.parametrize("region", REGIONS)
def test_weight_that_a_compiled_region_uses_twice_has_the_diagonal_of_the_dense_hessian(region: str) -> None:
    compiled = torch.compile(REGIONS[region], backend="eager")
    model, twin = pair(lambda s, x: s.last(compiled(s, x))), pair(lambda s, x: s.last(REGIONS[region](s, x)))
    x, y = torch.randn(20, 4, dtype=torch.float64), torch.arange(20) % 3
    names, values = zip(*twin.named_parameters(), strict=True)

    def loss(*tensors: Tensor) -> Tensor:
        outputs = torch.func.functional_call(twin, dict(zip(names, tensors, strict=True)), (x,))
        return functional.cross_entropy(outputs, y)

    dense = torch.autograd.functional.hessian(loss, tuple(value.detach() for value in values))
    found = ish.hessian_diagonal(ish.oracle(model, (x, y), batch_size=9)).groups
    for number, name in enumerate(names):
        expected = dense[number][number].reshape(2 * (values[number].numel(),)).diag().reshape(values[number].shape)
        assert found[name].method.startswith("exact"), found[name].method
        error = abs(found[name].values - expected.numpy()).max()
        assert error <= 1e-13, f"the diagonal of {name}, whose entries are of order one, is off by {error:.1e}"


def test_weight_whose_second_use_has_no_slope_yet_belongs_to_no_layer() -> None:
    def forward(model: Any, x: Tensor) -> Tensor:
        moved = functional.linear(x, model.first.weight - start)
        return model.last(functional.gelu(model.first(x))) + moved.square()[:, :3]

    model = pair(forward)
    start = model.first.weight.detach().clone()
    x, y = torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3
    able: Any = capability(ish.oracle(model, (x, y)), ResidualDiagonalOracle)
    units = able.layer_units(able.parameters)
    assert "first.weight" not in units, f"{sorted(units)} have layers"


def embedded(model: Any, tokens: Tensor, rows: Tensor) -> Tensor:
    return model.last(functional.gelu(model.words(tokens) + rows).mean(1))


def seen(tokens: Tensor) -> Tensor:
    """Positions, of which padding has the first."""
    return (tokens != 0).cumsum(1) * (tokens != 0)


def test_rows_of_positions_that_repeat_in_a_later_batch_are_squared_together() -> None:
    torch.manual_seed(0)
    parts = {"words": nn.Embedding(5, 4), "positions": nn.Embedding(4, 4), "last": nn.Linear(4, 3)}
    twin = Composed(lambda s, x: embedded(s, x, s.positions(seen(x))), **parts).double()
    model = Composed(lambda s, x: embedded(s, x, functional.embedding(seen(x)[0], s.positions.weight)), **parts)
    tokens, y = torch.randint(1, 5, (6, 3)), torch.arange(6) % 3
    tokens[4:, :2] = 0
    error = squares_error(model, twin, tokens, y, 1)
    assert error <= 1e-13, f"squares are off by {error:.1e}"
