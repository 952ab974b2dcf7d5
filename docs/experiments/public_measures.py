"""Certify measures of sharpness that others defined, on networks trained on scikit-learn's digits.

    pip install --group peers
    python docs/experiments/public_measures.py

A 64-32-32-10 perceptron and a small convolutional network with batch normalization in inference mode, both with ReLU, in
double precision. `docs/public_measures.md` has the output, the sources, and the reasons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import public_formulas
import public_modules
import public_packages
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.evaluation.certificate import Certificate
from invariant_sharpness.results.records import Finding

Measure = Callable[[ish.CurvatureOracle], Any]

MILD = "powers of two"


def perceptron() -> nn.Module:
    layers = [nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)]
    return nn.Sequential(nn.Flatten(), *layers)


def convolutional() -> nn.Module:
    first = [nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()]
    second = [nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(128, 10))


def digits(examples: int = 500) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:examples] / 16).reshape(-1, 1, 8, 8), torch.tensor(labels[:examples])


def trained(network: Callable[[], nn.Module], x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """Until every example is classified as its label says."""
    torch.manual_seed(0)
    model = network().double()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(100):
        for rows in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    assert bool((model.eval()(x).argmax(dim=1) == y).all()), "the measures of accuracy need a network without errors"
    return model


def measures(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> dict[Measure, set[str]]:
    """All of them, with their claims; minimum sharpness is defined for plain chains of layers alone."""
    plain = all(not isinstance(module, nn.BatchNorm2d) for module in network.modules())
    formulas = {m: c for m, c in public_formulas.CLAIMS.items() if plain or m is not public_formulas.minimum_sharpness}
    modules = public_modules.CLAIMS | public_packages.CLAIMS
    return formulas | {public_modules.of_module(m, network, x, y): claims for m, claims in modules.items()}


def mended(claims: dict[Measure, set[str]], moved: set[str]) -> dict[Measure, set[str]]:
    """What moved, in balanced coordinates, where a rescaling is said to do nothing. Features are the same in all coordinates."""
    of_features = {measure.__name__ for measure in public_modules.CLAIMS}
    return {
        public_modules.in_balanced_coordinates(measure): {"row_column"}
        for measure in claims
        if measure.__name__ in moved - of_features
    }


def certified(oracle: ish.CurvatureOracle, claims: dict[Measure, set[str]]) -> Certificate:
    return ish.certify(oracle, list(claims), claims={measure.__name__: claim for measure, claim in claims.items()})


def row(asked: Certificate, again: Certificate, name: str) -> list[str]:
    cells = [name]
    for kind in ("layer", "row_column"):
        of_kind = [finding for finding in asked if (finding.metric, finding.kind) == (name, kind)]
        cells += [_factor(of_kind), next(f.verdict for f in asked.worst() if (f.metric, f.kind) == (name, kind))]
    changes = [finding.change for finding in again if finding.metric == name]
    return [*cells, f"{max(changes):.0e}" if changes else ""]


def _factor(findings: list[Finding]) -> str:
    """Under the mildest of the moves: factors up to 16."""
    mild = next(finding for finding in findings if finding.move == MILD)
    return "=" if mild.change <= mild.tolerance else f"{mild.factor:.3g}"


def main() -> None:
    """Print a table for each network."""
    torch.set_default_dtype(torch.float64)
    x, y = digits()
    for make in (perceptron, convolutional):
        network = trained(make, x, y)
        oracle, claims = ish.oracle(network, (x, y)), measures(network, x, y)
        asked = certified(oracle, claims)
        moved = {finding.metric for finding in asked if finding.verdict in ("moves", "CLAIM FAILS")}
        again = certified(oracle, mended(claims, moved))
        headings = ("layers", "verdict", "rows and columns", "verdict", "balanced")
        table = Table(make.__name__, *headings)
        for measure in claims:
            table.add_row(*row(asked, again, measure.__name__))
        Console(width=118).print(asked.symmetries, table, sep="\n")


if __name__ == "__main__":
    main()
