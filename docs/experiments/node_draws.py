"""The diagonal of smooth networks from draws at operations and from draws at layers, at equal cost, against exact diagonals.

    python docs/experiments/node_draws.py [beginnings of the titles]

The networks are those of ``layer_draws.py`` and ``smooth_networks.py``, and a residual one; they see 128 of scikit-learn's digits, in float64. A budget is in gradients, by processor time in the same process, and buys draws
alone: the diagonal of the Gauss-Newton matrix is exact, and the same for both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from layer_draws import CASES, Case, exact_diagonal, seconds, trained
from sklearn.datasets import load_digits
from smooth_networks import NETWORKS
from torch import nn
from torch.nn import functional

import invariant_sharpness as ish
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HessianDiagonal

TRAINED, EXAMPLES, SEEDS, BUDGETS = 256, 128, 6, (30, 100)


class Residual(nn.Module):
    """Eight convolutions, two in each residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 6, 3, padding=1), nn.Linear(6 * 64, 10)
        self.convolutions = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x[:, None])
        for first, second in zip(self.convolutions[::2], self.convolutions[1::2], strict=True):
            x = x + second(functional.gelu(first(functional.gelu(x))))
        return self.head(x.flatten(1))


ALL_CASES = (
    *CASES,
    *(Case(title, build, 0) for title, build in NETWORKS.items()),
    Case("residual convolutions", Residual, 0),
)

TITLES = {
    "encoder, early": ("encoder, trained", 30),
    "encoder, trained": ("encoder, trained", 250),
    "gated, RMS norm, early": ("gated, RMS norm, early", 30),
    "gated, RMS norm, trained": ("gated, RMS norm, early", 250),
    "convolutions, early": ("convolutions, trained", 30),
    "convolutions, trained": ("convolutions, trained", 250),
    "convolutions, group norm, early": ("convolutions, group norm", 30),
    "convolutions, group norm, trained": ("convolutions, group norm", 250),
    "squeeze-and-excitation, early": ("squeeze-and-excitation", 30),
    "squeeze-and-excitation, trained": ("squeeze-and-excitation", 250),
    "residual convolutions, early": ("residual convolutions", 30),
    "residual convolutions, trained": ("residual convolutions", 250),
}
"""Networks, and for how many steps they are trained."""

Draw = Callable[[range, int], Any]
"""From the numbers of draws and a seed to their mean."""


def case_of(title: str) -> Case:
    source, steps = TITLES[title]
    return next(case for case in ALL_CASES if case.title == source)._replace(title=title, steps=steps)


def roads(oracle: Any) -> dict[str, Draw]:
    at, units = oracle.parameters, oracle.layer_units(oracle.parameters)
    names = frozenset(oracle.node_counts(at))
    assert names == units.keys() == {group.name for group in oracle.groups}
    return {
        "layers": lambda draws, seed: oracle.sampled_residual_diagonal(at, units, draws, seed),
        "operations": lambda draws, seed: oracle.propagated_residual_diagonal(at, names, draws, seed),
    }


def error(found: HessianDiagonal, exact: HessianDiagonal, names: list[str]) -> float:
    """Return the error of the diagonal of all weights, relative in norm."""
    differences = sum(float(((found[name].values - exact[name].values) ** 2).sum()) for name in names)
    return float(np.sqrt(differences / sum(float((exact[name].values ** 2).sum()) for name in names)))


def main() -> None:
    digits = load_digits()
    x = torch.tensor(digits.data[:TRAINED] / 8 - 1).reshape(-1, 8, 8)
    y = torch.tensor(digits.target[:TRAINED])
    print("| network | h < 0 | draws at | gradients | draws | error of h | error of (17) |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for title in [title for title in TITLES if title.startswith(tuple(sys.argv[1:] or [""]))]:
        model = trained(case_of(title), x, y)
        few = x[:EXAMPLES], y[:EXAMPLES]
        oracle, exact = ish.oracle(model, few), exact_diagonal(model, *few)
        names = [group.name for group in oracle.groups if group.is_weight]
        negative = np.mean(np.concatenate([(exact[name].values < 0).ravel() for name in names]))
        truth = ish.normalized_sharpness(oracle, diagonal=exact).value
        known = oracle.to_numpy(
            oracle.gauss_newton_diagonal(oracle.parameters, frozenset(g.name for g in oracle.groups))
        )
        gradient = min(seconds(lambda o=oracle: o.gradient(o.parameters)) for _ in range(9))
        for road, draw in roads(oracle).items():
            cost = min(seconds(lambda d=draw: d(range(4), 0)) for _ in range(3)) / 4 / gradient
            for budget in BUDGETS:
                count, errors, values = max(1, round(budget / cost)), [], []
                for seed in range(SEEDS):
                    residual = oracle.to_numpy(draw(range(count), seed))
                    found = HessianDiagonal({n: GroupDiagonal(known[n] + residual[n], "exact") for n in known})
                    errors.append(error(found, exact, names))
                    values.append(100 * (ish.normalized_sharpness(oracle, diagonal=found).value / truth - 1))
                print(
                    f"| {title} | {100 * negative:.0f} % | {road} | {budget} | {count} | {np.sqrt(np.mean(np.square(errors))):.3f} | "
                    f"{np.mean(values):+.2f} ± {np.std(values):.2f} % |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
