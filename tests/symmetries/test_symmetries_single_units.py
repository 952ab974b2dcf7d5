"""Networks with more rows and columns than are solved for at once: units whose neighbours have other activations are found one by one."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.symmetries import Symmetries, find_symmetries


class Interleaved(nn.Module):
    """ReLU on every ``period``-th unit, tanh on the others, along the axis that follows that of the examples."""

    def __init__(self, period: int) -> None:
        super().__init__()
        self.period = period

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        linear = torch.arange(x.shape[1]).reshape(-1, *[1] * (x.ndim - 2)) % self.period == 0
        return torch.where(linear, x.relu(), x.tanh())


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 240),
        Interleaved(2),
        nn.Linear(240, 150),
        Interleaved(3),
        nn.Linear(150, 150),
        nn.Tanh(),
        nn.Linear(150, 3),
    )


def flattened() -> nn.Module:
    """Channels whose four positions are one after the other in the columns of the last layer."""
    return nn.Sequential(nn.Conv2d(5, 200, 2), Interleaved(2), nn.Flatten(), nn.Linear(800, 3))


def fused() -> nn.Module:
    """Attention of one head, whose queries, keys and values are the rows of one weight."""
    return nn.Sequential(nn.Linear(20, 60), nn.Tanh(), Fused(60, 90), nn.Linear(60, 3))


class Fused(nn.Module):
    """Queries, keys and values in one, of which every other unit of the values is squashed."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.three, self.out = nn.Linear(width, 3 * head), nn.Linear(head, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.three(x).chunk(3, dim=-1)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        even = torch.arange(v.shape[-1]) % 2 == 0
        return x + self.out(weights @ torch.where(even, v, v.tanh()))


def unit(inner: str, outer: str, row: int, columns: str) -> str:
    return f"{inner}.weight[{row}], {inner}.bias[{row}] up, {outer}.weight[:, {columns}] down"


NETWORKS = {
    "perceptron": (
        perceptron,
        (20,),
        {unit("0", "2", i, f"{i}") for i in range(0, 240, 2)} | {unit("2", "4", i, f"{i}") for i in range(0, 150, 3)},
    ),
    "flattened": (flattened, (5, 3, 3), {unit("0", "3", i, f"{4 * i}:{4 * i + 4}") for i in range(0, 200, 2)}),
    "fused": (
        fused,
        (4, 20),
        {f"2.three.weight[{i}], 2.three.bias[{i}] up, 2.three.weight[{i + 90}] down" for i in range(90)}
        | {
            f"2.three.weight[{i + 180}], 2.three.bias[{i + 180}] up, 2.out.weight[:, {i}] down" for i in range(0, 90, 2)
        },
    ),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


@cache
def found(name: str, dtype: torch.dtype, max_unknowns: int) -> Symmetries:
    build, shape, _ = NETWORKS[name]
    torch.manual_seed(0)
    model, x = build().to(dtype), torch.randn(40, *shape, dtype=dtype)
    labels = torch.arange(40) % 3
    oracle = ish.oracle(model, (x, labels[:, None].expand(40, 4) if name == "fused" else labels))
    return find_symmetries(oracle, max_unknowns=max_unknowns)


@pytest.mark.parametrize("dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.slow)])
@every_network
def test_units_among_others_that_have_none_are_found(name: str, dtype: torch.dtype) -> None:
    texts, expected = set(map(str, found(name, dtype, 400))), NETWORKS[name][2]
    assert texts == expected, (
        f"missed {len(expected - texts)} of {len(expected)}, false {sorted(texts - expected)[:3]}:\n{found(name, dtype, 400)}"
    )


@every_network
def test_it_is_said_that_other_single_units_were_not_searched(name: str) -> None:
    symmetries = found(name, torch.float64, 400)
    assert not symmetries.complete, (
        f"complete, with {len(symmetries.variables)} unknowns and groups of {symmetries.block_width}"
    )
    assert f"groups of up to {symmetries.block_width}" in str(symmetries), str(symmetries)


@pytest.mark.slow
@every_network
def test_a_complete_search_finds_no_more(name: str) -> None:
    symmetries, expected = found(name, torch.float64, 3000), NETWORKS[name][2]
    assert symmetries.complete, f"groups of {symmetries.block_width}, {symmetries.refused} refused"
    assert set(map(str, symmetries)) == expected, f"{len(symmetries)} of {len(expected)}:\n{symmetries}"


def test_channels_that_a_mean_of_a_hundred_thousandth_keeps_from_being_rescaled_are_not_found() -> None:
    """In single precision, before a batch norm; among thousands of channels some have such a mean by chance."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(40)
    norm.running_mean = torch.where(torch.arange(40) % 4 == 0, 1e-5, 0.3)
    model = nn.Sequential(nn.Linear(4, 40, bias=False), norm, nn.ReLU(), nn.Linear(40, 3)).eval()
    symmetries = find_symmetries(ish.oracle(model, (torch.randn(40, 4), torch.arange(40) % 3)), max_unknowns=60)
    expected = {f"1.weight[{i}], 1.bias[{i}] up, 3.weight[:, {i}] down" for i in range(40)}
    assert set(map(str, symmetries)) == expected, f"{len(symmetries)} of {len(expected)}:\n{symmetries}"
    assert not symmetries.refused, str(symmetries)
