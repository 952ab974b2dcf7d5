"""What squares of derivatives cost where PyTorch takes them one example at a time: at the recurrent weights of an LSTM.

    python docs/experiments/one_by_one.py

The digits are sequences of eight rows, in float64. A pass over the examples one at a time is a forward pass, or the backward pass of a term; each costs so many
gradients of a whole batch, in processor time.
"""

from __future__ import annotations

import torch
import works
from sklearn.datasets import load_digits
from torch import nn

import invariant_sharpness as ish

SAMPLES = 4


class Recurrent(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(8, width, batch_first=True), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0][:, -1])


def cost(width: int, examples: int) -> float:
    """Gradients for each pass over the examples one at a time."""
    torch.manual_seed(0)
    digits = load_digits()
    x, y = torch.tensor(digits.data[:examples] / 8 - 1).reshape(-1, 8, 8), torch.tensor(digits.target[:examples])
    oracle = ish.oracle(Recurrent(width).double(), (x, y))
    at, names = oracle.parameters, frozenset(oracle.squared_one_by_one(oracle.parameters))
    squares = lambda: oracle.sampled_gauss_newton_diagonal(at, names, range(SAMPLES), 0)  # noqa: E731
    return works.ratio(squares, lambda: oracle.gradient(at)) / (SAMPLES + 1)


def main() -> None:
    """Print the table in Markdown."""
    print("| units | examples in a batch | gradients for a pass |")
    print("| ---: | ---: | ---: |")
    for width in (16, 128):
        for examples in (50, 200):
            print(f"| {width} | {examples} | {cost(width, examples):.0f} |", flush=True)


if __name__ == "__main__":
    main()
