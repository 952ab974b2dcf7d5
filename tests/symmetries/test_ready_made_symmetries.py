"""Symmetries from the literature: other parameters, the same loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.symmetries import Symmetry, chain_permutations


class TwoHeads(nn.Module):
    """Attention with two heads of width 3 and all biases, the mean over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, 6) for _ in range(3))
        self.out = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, 3)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = (q @ k.mT).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2)).mean(1)


def oracle_of(model: nn.Module, shape: tuple[int, ...], loss: str = "cross_entropy") -> ish.CurvatureOracle:
    return ish.oracle(model.double().eval(), (torch.randn(10, *shape).double(), torch.arange(10) % 3), loss=loss)


def attention() -> ish.CurvatureOracle:
    torch.manual_seed(0)
    return oracle_of(TwoHeads(), (5, 4))


def perceptron(loss: str = "cross_entropy") -> ish.CurvatureOracle:
    torch.manual_seed(0)
    return oracle_of(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), (4,), loss)


def flattened() -> ish.CurvatureOracle:
    """Several inputs of the last layer for each channel."""
    torch.manual_seed(0)
    return oracle_of(nn.Sequential(nn.Conv2d(2, 5, 3), nn.GELU(), nn.Flatten(), nn.Linear(20, 3)), (2, 4, 4))


SYMMETRIES: dict[str, Callable[[], tuple[ish.CurvatureOracle, Symmetry]]] = {
    "queries and keys": lambda: _with(
        attention(), ("query.weight", "query.bias"), ("key.weight", "key.bias"), "output"
    ),
    "values and output": lambda: _with(attention(), ("value.weight", "value.bias"), ("out.weight",), "input"),
    "permutation": lambda: (one := perceptron(), chain_permutations(one)[0]),
    "permutation of channels": lambda: (one := flattened(), chain_permutations(one)[0]),
    "shift": lambda: (one := perceptron(), ish.OutputShift(one, "2.bias")),
    "scale": lambda: (
        one := perceptron("normalized_cross_entropy"),
        ish.OutputScale(one, ("2.weight", "2.bias")),
    ),
}


def _with(
    one: ish.CurvatureOracle, mixed: tuple[str, ...], undone: tuple[str, ...], side: str
) -> tuple[ish.CurvatureOracle, Symmetry]:
    return one, ish.HeadMixing(one, mixed, undone, side, heads=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SYMMETRIES)
def test_loss_stays_and_parameters_move(name: str) -> None:
    oracle, symmetry = SYMMETRIES[name]()
    start = oracle.loss(oracle.parameters)
    for strength, move in symmetry.transformations(1).items():
        there = move.apply(oracle.parameters)
        change = abs(oracle.loss(there) - start) / start
        distance = (there - oracle.parameters).norm() / oracle.parameters.norm()
        assert change <= 1e-10, f"{strength}: the loss moved by {change:.1e}"
        assert distance > 0.05, f"{strength}: the parameters moved by {distance:.1e} only"


@pytest.mark.parametrize("name", SYMMETRIES)
def test_it_says_in_words_which_parameters_it_moves(name: str) -> None:
    oracle, symmetry = SYMMETRIES[name]()
    for move in symmetry.transformations(1).values():
        distances = (move.apply(oracle.parameters) - oracle.parameters).arrays
        moved = {group for group, array in distances.items() if float(abs(array).max()) > 0}
        assert all(group in str(symmetry) for group in moved), f"{symmetry} does not name all of {moved}"


@pytest.mark.parametrize("name", SYMMETRIES)
def test_same_seed_makes_the_same_moves(name: str) -> None:
    oracle, symmetry = SYMMETRIES[name]()
    first, second = ([move.apply(oracle.parameters) for move in symmetry.transformations(7).values()] for _ in range(2))
    assert all((a - b).norm() == 0 for a, b in zip(first, second, strict=True))


def test_given_parameters_are_not_touched() -> None:
    oracle, symmetry = SYMMETRIES["permutation"]()
    before = oracle.to_numpy(oracle.parameters)
    for move in symmetry.transformations(0).values():
        move.apply(oracle.parameters)
    assert all(np.array_equal(before[name], array) for name, array in oracle.to_numpy(oracle.parameters).items())


def test_matrix_normalized_and_normalized_sharpness_move_under_head_mixing() -> None:
    oracle, symmetry = SYMMETRIES["values and output"]()
    certificate = ish.certify(ish.GaussNewton(oracle), "normalized_sharpness", symmetries=symmetry)
    assert {finding.verdict for finding in certificate} == {"moves"}, certificate


def test_heads_must_divide_the_width() -> None:
    oracle = attention()
    mixing = ish.HeadMixing(oracle, ("query.weight",), ("key.weight",), "output", heads=4)
    with pytest.raises(ValueError, match=r"6 outputs of 'query.weight' are no 4 heads"):
        mixing.transformations(0)


def test_group_of_another_width_is_refused_by_name() -> None:
    oracle = attention()
    mixing = ish.HeadMixing(oracle, ("query.weight",), ("out.bias",), "output", heads=2)
    with pytest.raises(ValueError, match=r"'out.bias' has 3 entries"):
        mixing.transformations(0)["mild mixing"].apply(oracle.parameters)


def test_permutation_of_a_group_with_other_units_is_refused_by_name() -> None:
    oracle = perceptron()
    wrong = ish.UnitPermutation(oracle, ("0.weight",), ("0.weight",))
    with pytest.raises(ValueError, match=r"6 units cannot be put in another order in '0.weight'"):
        wrong.transformations(0)["random order"].apply(oracle.parameters)
