"""Squares of tied embeddings: the gradients of an example are added before the square, without a pass for each example."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import invariant_sharpness as ish

EXAMPLES, TOKENS, WORDS, WIDTH = 5, 4, 7, 3


class Language(nn.Module):
    """An embedding that is also the matrix of the outputs."""

    def __init__(self, padding: int | None) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH, padding_idx=padding)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(torch.tanh(self.table(tokens)), self.table.weight)


PADDINGS = [None, 2]


def tokens() -> torch.Tensor:
    return torch.arange(EXAMPLES * TOKENS).reshape(EXAMPLES, TOKENS) ** 2 % WORDS


def oracle_of(model: nn.Module) -> Any:
    return ish.oracle(model.double(), [(tokens(), tokens().roll(1))], "cross_entropy")


@pytest.mark.parametrize("padding", PADDINGS)
def test_no_example_is_taken_by_itself(padding: int | None) -> None:
    torch.manual_seed(0)
    oracle = oracle_of(Language(padding))
    assert oracle.squared_one_by_one(oracle.parameters) == {}


@pytest.mark.parametrize("padding", PADDINGS)
def test_squares_are_those_of_autograd(padding: int | None) -> None:
    torch.manual_seed(0)
    model = Language(padding).double()
    found = oracle_of(model).gradient_second_moment(oracle_of(model).parameters)
    expected = {parameter: torch.zeros_like(value) for parameter, value in model.named_parameters()}
    for example, targets in zip(tokens(), tokens().roll(1), strict=True):
        for position in range(TOKENS):
            loss = nn.functional.cross_entropy(model(example[None])[0, position], targets[position])
            for parameter, gradient in zip(expected, torch.autograd.grad(loss, list(model.parameters())), strict=True):
                expected[parameter] += gradient.square() / (EXAMPLES * TOKENS)
    for parameter, square in expected.items():
        assert torch.allclose(found[parameter], square, rtol=1e-12, atol=1e-15), (
            f"{parameter}: {found[parameter]}, {square}"
        )


def test_layers_above_are_not_those_of_a_tied_embedding() -> None:
    torch.manual_seed(0)
    oracle = oracle_of(Language(None))
    assert oracle.layer_units(oracle.parameters) == {}, "a parameter that enters twice is no layer"
