"""Two trainings at the edge of stability, and the curvature that each optimizer sees there: the first figures of ``docs/edge_of_stability.md``.

    python docs/experiments/edge_of_stability.py            # both, a minute on one core
    python docs/experiments/edge_of_stability.py adam       # one of them

A tanh network on 250 of scikit-learn's digits with the squared error, in double precision. Each figure goes to ``docs/_static/edge_of_stability_NAME.png``,
its numbers are printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from edge_of_stability_figure import Curves, draw, summary
from sklearn.datasets import load_digits
from torch import nn

import invariant_sharpness as ish

EXAMPLES, WIDTH, TOLERANCE = 250, 24, 1e-3


@dataclass(frozen=True)
class Training:
    """An optimizer with its learning rate, how long it trains, and the words of its figure."""

    optimizer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]
    steps: int
    every: int
    title: str
    threshold: str


TRAININGS = {
    "descent": Training(lambda p: torch.optim.SGD(p, 1.0), 3000, 50, "Gradient descent, all data", "2 / learning rate"),
    "adam": Training(lambda p: torch.optim.Adam(p, 3e-3), 4000, 100, "Adam, all data", "38 / learning rate"),
}


def data() -> tuple[torch.Tensor, torch.Tensor]:
    digits = load_digits()
    x = torch.as_tensor(digits.data[:EXAMPLES] / 16)
    return x, nn.functional.one_hot(torch.as_tensor(digits.target[:EXAMPLES])).double()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 10)).double()


def curvatures(oracle: ish.CurvatureOracle, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """What the optimizer sees of the curvature."""
    if isinstance(optimizer, torch.optim.Adam):
        seen = ish.preconditioned_sharpness(oracle, optimizer=optimizer, tolerance=TOLERANCE).value
        return {"preconditioned sharpness": seen}
    return {"largest eigenvalue": ish.preconditioned_sharpness(oracle, tolerance=TOLERANCE).value}


def train(training: Training) -> tuple[Curves, float]:
    """Losses and curvatures over the steps, and the threshold."""
    (x, y), model = data(), network()
    oracle, optimizer = ish.oracle(model, (x, y), loss="mse"), training.optimizer(model.parameters())
    draws, curves = torch.Generator().manual_seed(0), Curves()
    for step in range(1, training.steps + 1):
        rows = torch.randperm(EXAMPLES, generator=draws)  # all of them, in an order that rounding alone sees
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[rows]), y[rows]).backward()
        optimizer.step()
        if step % training.every == 0:
            found = {"step": step, "loss": oracle.loss(oracle.parameters), **curvatures(oracle, optimizer)}
            for name, value in found.items():
                curves.setdefault(name, []).append(value)
    return curves, ish.optimizer_state(oracle, optimizer).threshold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trainings", nargs="*", choices=[*TRAININGS, []], help="by default all")
    torch.set_num_threads(1)
    for name in parser.parse_args().trainings or TRAININGS:
        curves, threshold = train(TRAININGS[name])
        draw(name, TRAININGS[name].title, curves, threshold, line=TRAININGS[name].threshold)
        print(f"{name:8} {summary(curves, threshold)}", flush=True)


if __name__ == "__main__":
    main()
