"""Low-rank adapters: measured as a pair, whose value no change of the basis between them moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError
from zoo.installed import missing

if missing("torch"):
    pytest.skip("torch is not installed", allow_module_level=True)

import torch
from torch import nn

RANK = 2
X, Y = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 3


class Adapted(nn.Module):
    """A frozen weight with a pair of adapters beside it, named as PEFT does."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base_layer = nn.Linear(inputs, outputs).requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(inputs, RANK, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(RANK, outputs, bias=False)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))


def model(change: Any = None) -> nn.Module:
    """Two adapted layers; ``change`` is the basis between the adapters of each."""
    torch.manual_seed(0)
    layers = nn.Sequential(Adapted(4, 5), nn.ReLU(), Adapted(5, 3)).double()
    if change is not None:
        with torch.no_grad():
            for layer in (layers[0], layers[2]):
                a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                a.copy_(torch.linalg.solve(change, a))
                b.copy_(b @ change)
    return layers


def oracle(change: Any = None) -> Any:
    return ish.oracle(model(change), (X, Y))


def value(of: Any) -> float:
    return ish.head_normalized_sharpness(of, heads=ish.adapter_heads(of)).value


def test_pairs_are_found_by_the_names_of_peft() -> None:
    found = ish.adapter_heads(oracle())
    sides = {name: own.side for name, own in found.items()}
    assert sides == {
        "0.lora_A.default.weight": "output",
        "0.lora_B.default.weight": "input",
        "2.lora_A.default.weight": "output",
        "2.lora_B.default.weight": "input",
    }, f"{sides}"
    assert {own.count for own in found.values()} == {1}, "the units between two adapters are one head"


@pytest.mark.parametrize("seed", [0, 1])
def test_no_change_of_the_basis_between_adapters_moves_the_value(seed: int) -> None:
    change = torch.tensor(np.random.default_rng(seed).normal(size=(RANK, RANK)) + 2 * np.eye(RANK))
    here, there = value(oracle()), value(oracle(change))
    assert oracle(change).loss(oracle(change).parameters) == pytest.approx(
        oracle().loss(oracle().parameters), rel=1e-12
    )
    assert there == pytest.approx(here, rel=1e-6), f"{there} instead of {here}"


def test_scales_of_single_units_do_not_survive_it() -> None:
    """What the heads are for: (17), which knows of rows and columns alone, moves."""
    change = torch.tensor([[1.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
    values = [ish.normalized_sharpness(ish.GaussNewton(oracle(basis))).value for basis in (None, change)]
    assert abs(values[1] / values[0] - 1) > 0.05, f"{values}"


def test_the_value_is_at_most_that_of_units_alone() -> None:
    of = oracle()
    assert value(of) <= ish.normalized_sharpness(ish.GaussNewton(of)).value * (1 + 1e-9)


def test_adapters_with_names_of_their_own_are_described() -> None:
    plain = nn.Sequential(nn.Linear(4, RANK, bias=False), nn.Linear(RANK, 3, bias=False)).double()
    of = ish.oracle(plain, (X, Y))
    assert ish.adapter_heads(of) == {}, "weights without such names are no adapters"
    found = ish.adapter_heads(of, pairs=[("0.weight", "1.weight")])
    assert found == {"0.weight": ish.Heads(1, "output"), "1.weight": ish.Heads(1, "input")}, f"{found}"


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("0.weight", "2.weight"), "no parameter '2.weight' that could be an adapter"),
        (("1.weight", "0.weight"), "name A first"),
    ],
)
def test_what_is_no_pair_is_refused(pair: tuple[str, str], words: str) -> None:
    plain = nn.Sequential(nn.Linear(4, RANK, bias=False), nn.Linear(RANK, 3, bias=False)).double()
    with pytest.raises(ModelError, match=words):
        ish.adapter_heads(ish.oracle(plain, (X, Y)), pairs=[pair])
