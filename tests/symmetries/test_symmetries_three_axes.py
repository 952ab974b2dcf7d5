"""Weights of three axes and of no known role: heads, dimensions and width, of which any two may count units."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

import invariant_sharpness as ish
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness.symmetries import Symmetries, find_symmetries

HEADS, DIM, WIDTH = 2, 3, 4


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) / 2)


class Attention(nn.Module):
    """Each head has queries, keys and values of its own dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (weight(HEADS, DIM, WIDTH) for _ in range(4))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (torch.einsum("hdw,blw->bhld", w, x) for w in (self.query, self.key, self.value))
        mixed = (q @ k.mT).softmax(-1) @ v
        return self.head(torch.einsum("hdw,bhld->blw", self.out, mixed).tanh().mean(1))


class Parallel(nn.Module):
    """Perceptrons side by side, which only the outputs add up: each has rows and columns of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = weight(HEADS, DIM, WIDTH), weight(HEADS, 2, DIM), weight(3, HEADS, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.einsum("hdw,bw->bhd", self.first, x).relu()
        x = torch.einsum("hed,bhd->bhe", self.second, x).relu()
        return torch.einsum("khe,bhe->bk", self.third, x)


NETWORKS = {
    "attention": (
        Attention,
        (5, WIDTH),
        {f"query[{h}, {d}] up, key[{h}, {d}] down" for h in range(HEADS) for d in range(DIM)}
        | {f"value[{h}, {d}] up, out[{h}, {d}] down" for h in range(HEADS) for d in range(DIM)},
    ),
    "perceptrons side by side": (
        Parallel,
        (WIDTH,),
        {f"first[{h}, {d}] up, second[{h}, :, {d}] down" for h in range(HEADS) for d in range(DIM)}
        | {f"second[{h}, {e}] up, third[:, {h}, {e}] down" for h in range(HEADS) for e in range(2)},
    ),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def model_and_inputs(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    build, shape, _ = NETWORKS[name]
    return build().double(), torch.randn(12, *shape, dtype=torch.float64)


def without_roles(model: nn.Module) -> list[ParameterGroup]:
    """What an oracle has that cannot tell what the axes are."""
    return [ParameterGroup(name, tuple(p.shape)) for name, p in model.named_parameters() if p.ndim == 3]


@cache
def found(name: str, max_unknowns: int = 1000, *, roles: bool = False) -> Symmetries:
    model, x = model_and_inputs(name)
    groups = [] if roles else without_roles(model)
    oracle = ish.oracle(model, (x, torch.arange(len(x)) % 3), groups=groups)
    return find_symmetries(oracle, max_unknowns=max_unknowns)


def difference(symmetries: Symmetries, name: str) -> str:
    texts, expected = set(map(str, symmetries)), NETWORKS[name][2]
    return f"missed {expected - texts}, false {texts - expected}" if texts != expected else ""


@pytest.mark.parametrize("max_unknowns", [1000, 12])
@every_network
def test_those_derived_by_hand_are_found(name: str, max_unknowns: int) -> None:
    assert not difference(found(name, max_unknowns), name), difference(found(name, max_unknowns), name)


@every_network
def test_those_of_weights_whose_roles_are_told_are_the_same(name: str) -> None:
    assert not difference(found(name, roles=True), name), difference(found(name, roles=True), name)


@every_network
def test_as_many_are_found_as_single_entries_have(name: str) -> None:
    """The exponents of entries by themselves: no more freedom than rows and columns have, so the nullities agree."""
    model, x = model_and_inputs(name)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    jacobian = jacrev(lambda values: functional_call(model, values, (x,)).reshape(-1))
    torch.manual_seed(3)
    rows = []
    for _ in range(30):
        point = {name: torch.randn_like(p) for name, p in parameters.items()}
        slopes = jacobian(point)
        rows.append(torch.cat([(point[name] * slopes[name]).flatten(1) for name in parameters], dim=1))
    values = np.linalg.svd(torch.cat(rows).numpy(), compute_uv=False)
    nullity = int(np.sum(values < 1e-9 * values[0]))
    assert len(found(name)) == nullity, f"{len(found(name))} found, nullity {nullity} of {len(values)} entries"


def test_a_search_of_all_pairs_is_complete() -> None:
    symmetries = found("attention")
    assert symmetries.complete, str(symmetries)


def test_pairs_that_are_too_many_are_named() -> None:
    """Of 40 x 40 x 2 entries, 1,600 pairs have no exponents: the rest has, and the search is not called complete."""

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.head = weight(2, 40, 40), nn.Linear(80, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.einsum("hdw,bw->bhd", self.wide, x).relu().flatten(1))

    torch.manual_seed(0)
    x = torch.randn(12, 40, dtype=torch.float64)
    model = Wide().double()
    symmetries = find_symmetries(ish.oracle(model, (x, torch.arange(12) % 3), groups=without_roles(model)))
    expected = {f"wide[{h}, {d}] up, head.weight[:, {40 * h + d}] down" for h in range(2) for d in range(40)}
    assert set(map(str, symmetries)) == expected, str(symmetries)
    assert not symmetries.complete, str(symmetries)
    assert "wide" in str(symmetries).splitlines()[-1], str(symmetries)
