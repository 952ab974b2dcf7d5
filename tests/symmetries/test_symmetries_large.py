"""Networks of more rows and columns than are solved for at once, and the steps of their search."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.symmetries import Symmetries, find_symmetries
from invariant_sharpness.symmetries.scaling_variables import ScalingVariables
from invariant_sharpness.symmetries.search.equations import Equations
from invariant_sharpness.symmetries.search.remainder import remaining_null_space
from zoo.symmetric_modules import Alternating, Stack

Build = Callable[[], nn.Module]


def found(build: Build, max_unknowns: int = 10_000, inputs: int = 30) -> Symmetries:
    torch.manual_seed(0)
    x = torch.randn(16, inputs, dtype=torch.float64)
    return find_symmetries(
        ish.oracle(build().double(), (x, torch.zeros(16, dtype=torch.int64))), max_unknowns=max_unknowns
    )


def wide(activation: Build, width: int = 120) -> nn.Module:
    return nn.Sequential(nn.Linear(30, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, 3))


def units(numbers: range) -> set[str]:
    return {
        f"{layer}.weight[{i}], {layer}.bias[{i}] up, {layer + 2}.weight[:, {i}] down"
        for layer in (0, 2)
        for i in numbers
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "numbers", "max_unknowns"),
    [
        (nn.ReLU, range(120), 10_000),
        (Alternating, range(0, 120, 2), 10_000),
        (nn.GELU, range(0), 10_000),
        (Alternating, range(0, 120, 2), 400),
    ],
)
def test_units_of_wide_layers_are_found_one_by_one(activation: Build, numbers: range, max_unknowns: int) -> None:
    symmetries = found(lambda: wide(activation), max_unknowns)
    texts, expected = set(map(str, symmetries)), units(numbers)
    assert texts == expected, f"missed {sorted(expected - texts)[:3]}, false {sorted(texts - expected)[:3]}"
    assert symmetries.complete == (max_unknowns == 10_000), str(symmetries)


@pytest.mark.slow
def test_it_says_in_words_whether_there_may_be_others() -> None:
    whole, part = found(lambda: wide(nn.ReLU)), found(lambda: wide(nn.ReLU), 400)
    assert "complete: no other scaling" in str(whole), str(whole)
    assert "not proven complete: of 756 rows and columns" in str(part), str(part)


class Normalized(nn.Module):
    """The common scale of a wide layer, which takes all of its rows and all of its biases."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x / x.norm(dim=-1, keepdim=True)).tanh()


@pytest.mark.slow
def test_what_takes_a_whole_layer_is_found_beside_single_units() -> None:
    layers = nn.Linear(30, 150), nn.ReLU(), nn.Linear(150, 160), Normalized(), nn.Linear(160, 3)
    symmetries = found(lambda: nn.Sequential(*layers))
    expected = {f"0.weight[{i}], 0.bias[{i}] up, 2.weight[:, {i}] down" for i in range(150)} | {"2.weight, 2.bias up"}
    assert set(map(str, symmetries)) == expected, str(symmetries)
    assert symmetries.complete, str(symmetries)


class Halves(nn.Module):
    """Two halves of a wide layer that are interleaved, each with a scale of its own: no group of neighbours has them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([(x[:, k::2] / x[:, k::2].norm(dim=-1, keepdim=True)).tanh() for k in range(2)], dim=1)


@pytest.mark.slow
def test_what_no_correlation_and_no_group_of_neighbours_shows_is_found_in_the_remainder() -> None:
    symmetries = found(lambda: nn.Sequential(nn.Linear(30, 400), Halves(), nn.Linear(400, 3)))
    exponents = [frozenset(generator.exponents.values()) for generator in symmetries]
    assert len(symmetries) == 2, str(symmetries)
    assert exponents == [{1.0}] * 2, str(symmetries)
    assert symmetries.complete, str(symmetries)


@pytest.mark.slow
def test_stack_of_wide_matrices() -> None:
    class Wide(Stack):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Parameter(torch.randn(3, 30, 20)), nn.Parameter(torch.randn(3, 20, 5))
            self.bias = nn.Parameter(torch.randn(3, 20))

    symmetries = found(Wide)
    expected = {f"inner[{e}, :, {i}], bias[{e}, {i}] up, outer[{e}, {i}] down" for e in range(3) for i in range(20)}
    assert set(map(str, symmetries)) == expected, str(symmetries)


def equations(matrix: np.ndarray) -> Equations:
    """One gain for each column."""
    count = matrix.shape[1]
    group = ish.ParameterGroup("gain", (count,), "norm")
    return Equations(ScalingVariables([group]), matrix, {"gain": np.abs(matrix).mean(axis=0)}, np.zeros(count))


@pytest.mark.parametrize(("unknowns", "nullity"), [(1, 0), (1, 1), (7, 3), (60, 0), (60, 1), (60, 23), (60, 60)])
def test_remainder_is_the_null_space_that_singular_values_give(unknowns: int, nullity: int) -> None:
    rng = np.random.default_rng(unknowns + nullity)
    matrix = rng.normal(size=(2 * unknowns, unknowns - nullity)) @ rng.normal(size=(unknowns - nullity, unknowns))
    matrix += 1e-300 * rng.normal(size=matrix.shape)  # a column acts
    system = equations(matrix if nullity < unknowns else 1e-12 * rng.normal(size=(2 * unknowns, unknowns)))
    if nullity == unknowns:
        system = Equations(system.variables, system.coefficients, {"gain": np.ones(unknowns)}, system.rounding)
    rest = remaining_null_space(system, np.zeros(0, dtype=np.intp), 1e-10)
    assert rest.basis.shape == (unknowns, nullity), f"{rest.basis.shape[1]} vectors"
    if nullity:
        scaled = system.coefficients / system.sizes
        _, _, vectors = np.linalg.svd(scaled)
        angle = subspace_angles(rest.basis, vectors[unknowns - nullity :].T).max()
        assert angle < 1e-8, f"the null spaces are {angle:.1e} apart"
