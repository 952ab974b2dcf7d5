"""From how many outputs on sampling them pays: cost and error of the diagonal, exact and from draws.

    python docs/experiments/sampled_outputs.py [--classes 10 64 65 100 256 1000] [--tagger]

A convolutional network of two convolutions and two dense layers with ReLU on 256 images of 3 x 16 x 16, and a tagger of 10 classes on 16 texts of
128 tokens, which has 1,280 outputs per example. Costs are processor time, divided by that of one gradient of the oracle; errors are those of
normalized sharpness (17), relative to the exact one, beside the standard error that is stated.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from math import inf
from typing import Any, TypeVar

import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_groups import certified_diagonal, exact_diagonal, most_exact_outputs

T = TypeVar("T")

IMAGES, TEXTS, TOKENS, TAGS, WORDS = 256, 16, 128, 10, 50


def image_network(classes: int) -> ish.CurvatureOracle:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )
    return ish.oracle(model, (torch.randn(IMAGES, 3, 16, 16), torch.randint(classes, (IMAGES,))))


class Tagger(nn.Module):
    """A tag for each of the tokens, from its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 16)
        self.near, self.far, self.head = (
            nn.Conv1d(16, 32, 5, padding=2),
            nn.Conv1d(32, 32, 5, padding=2),
            nn.Linear(32, TAGS),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.near(self.words(tokens).transpose(1, 2)))
        return self.head(torch.relu(self.far(hidden)).transpose(1, 2))


def tagger() -> ish.CurvatureOracle:
    torch.manual_seed(0)
    data = torch.randint(WORDS, (TEXTS, TOKENS)), torch.randint(TAGS, (TEXTS, TOKENS))
    return ish.oracle(Tagger(), data)


def timed(function: Callable[[], T], runs: int = 1) -> tuple[float, T]:
    """Seconds of processor time of a run, and what it returned."""
    started = time.process_time()
    results = [function() for _ in range(runs)]
    return (time.process_time() - started) / runs, results[-1]


def row(name: str, oracle: Any) -> str:
    """Costs and errors of one network."""
    oracle.gradient(oracle.parameters)
    gradient, _ = timed(lambda: oracle.gradient(oracle.parameters), 5)
    exact, diagonal = timed(lambda: exact_diagonal(oracle, most_outputs=inf))
    truth = ish.normalized_sharpness(oracle, diagonal=diagonal).value
    cells = [name, f"{oracle.outputs_per_example:,}", f"{exact / gradient:.0f}"]
    for draws in (16, 64):
        tested = exact_diagonal(oracle, most_outputs=0)
        sampled, found = timed(
            lambda draws=draws, tested=tested: certified_diagonal(oracle, probes=draws, diagonal=tested)
        )
        value = ish.normalized_sharpness(oracle, diagonal=found)
        stated = (value.standard_error or 0.0) / truth
        cells.append(f"{sampled / gradient:.0f}; {value.value / truth - 1:+.2%} (± {stated:.2%})")
    chosen = "exact" if oracle.outputs_per_example <= most_exact_outputs(oracle, 64) else "64 draws"
    return f"| {' | '.join([*cells, chosen])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 64, 65, 100, 256, 1000])
    parser.add_argument("--tagger", action="store_true")
    given = parser.parse_args()
    print(
        "| network | outputs | exact, gradients | 16 draws, gradients; error | 64 draws, gradients; error | by default |"
    )
    print("| --- | ---: | ---: | --- | --- | --- |")
    for classes in given.classes:
        print(row("convolutional", image_network(classes)), flush=True)
    if given.tagger:
        print(row("tagger", tagger()), flush=True)


if __name__ == "__main__":
    main()
