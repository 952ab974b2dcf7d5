"""The diagonal of nine smooth networks, and what is made of it, at the cost of 16 to 256 gradients, against dense references.

    python docs/experiments/smooth_evidence.py
    python docs/experiments/smooth_evidence.py --networks LSTM --estimators "layer draws" XDiag

Each network of ``smooth_networks.py`` sees 200 of scikit-learn's digits, in float64, and is measured after 5 steps, where its loss has fallen to half
of that of chance, and after 400 steps. The truth is computed column by column. The rows go to ``docs/_static/smooth_evidence.csv``, in the place of
older ones, from which the tables and the picture are made. Gradients are processor time in that of one gradient.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import matplotlib.pyplot as plt
import numpy as np
import torch
from layer_draws import exact_diagonal
from sklearn.datasets import load_digits
from smooth_networks import CLASSES, NETWORKS
from torch import nn
from torch.nn import functional

import invariant_sharpness as ish
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HessianDiagonal
from invariant_sharpness.estimators.parts_of_draws import equal_parts
from invariant_sharpness.estimators.probed_diagonal import probe_means, probed_groups
from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT

EXAMPLES, EARLY, STEPS = 200, 5, 400
STAGES = ("early", "half-way", "end")
ROUNDING = 1e-9
KEPT = Path(__file__).parents[1] / "_static" / "smooth_evidence"

Oracle = Any
Data = tuple[torch.Tensor, torch.Tensor]


class Estimator(NamedTuple):
    """A diagonal from an oracle, a budget in gradients and a seed, and what it is run with."""

    run: Callable[[Oracle, int, int], HessianDiagonal]
    budgets: tuple[int, ...] = (16, 64, 256)
    seeds: int = 2
    has_interval: bool = False


def layer_draws(oracle: Oracle, budget: int, seed: int) -> HessianDiagonal:
    return ish.hessian_diagonal(oracle, budget=budget, seed=seed)


def shared_probes(oracle: Oracle, budget: int, seed: int) -> HessianDiagonal:
    names = frozenset(group.name for group in oracle.groups)
    return HessianDiagonal(probed_groups(oracle, names, products(budget), seed), products(budget))


def hutchinson(oracle: Oracle, budget: int, seed: int) -> HessianDiagonal:
    names, ones = frozenset(g.name for g in oracle.groups), {g.name: np.ones(g.shape) for g in oracle.groups}
    parts = probe_means(oracle, names, oracle.from_numpy(ones), equal_parts(range(products(budget))), seed)
    return known({name: array.mean(axis=0) for name, array in parts.items()})


def xdiag(oracle: Oracle, budget: int, seed: int) -> HessianDiagonal:
    return known(ish.xdiag(oracle, num_matvecs=products(budget), seed=seed).arrays)


def products(budget: int) -> int:
    return int(budget / GRADIENTS_PER_PRODUCT)


def known(arrays: dict[str, Any]) -> HessianDiagonal:
    """A diagonal that is taken as it is."""
    return HessianDiagonal({name: GroupDiagonal(array, "exact") for name, array in arrays.items()})


ESTIMATORS = {
    "layer draws": Estimator(layer_draws, (16, 64, 100, 200, 256), 3, has_interval=True),
    "shared probes": Estimator(shared_probes, has_interval=True),
    "Hutchinson": Estimator(hutchinson),
    "XDiag": Estimator(xdiag, (16, 64)),  # the pairs of its jackknife are the larger part beyond
}


class Row(NamedTuple):
    """Relative errors, root mean squares over the seeds; those of (17) also as their mean and standard deviation."""

    network: str
    stage: str
    loss: float
    parameters: int
    estimator: str
    budget: int
    gradients: float
    diagonal: float
    normalized: float
    normalized_mean: float
    normalized_deviation: float
    matrix: float
    pacgen: float
    held: int
    seeds: int


class Stage(NamedTuple):
    name: str
    loss: float
    model: nn.Module


def stages(build: Callable[[], nn.Module], x: torch.Tensor, y: torch.Tensor) -> Iterator[Stage]:
    """Train, and stop three times."""
    torch.manual_seed(1)
    model, half = build().double().eval(), False
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for step in range(STEPS + 1):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        if step == EARLY:
            yield Stage(STAGES[0], loss.item(), model)
        elif not half and loss < np.log(CLASSES) / 2:
            half = True
            yield Stage(STAGES[1], loss.item(), model)
        elif step == STEPS:
            yield Stage(STAGES[2], loss.item(), model)
        loss.backward()
        optimizer.step()


def values(oracle: Oracle, diagonal: HessianDiagonal) -> np.ndarray:
    """(17), (13) and PACGen with widths at which the curvature of most parameters counts."""
    taken = known(diagonal.arrays)
    return np.array(
        [
            ish.normalized_sharpness(oracle, diagonal=taken).value,
            ish.matrix_normalized_sharpness(oracle, diagonal=taken).value,
            ish.pacgen(oracle, gamma=10, epsilon=10, rho=0.0, diagonal=taken).value,
        ]
    )


def holds(oracle: Oracle, diagonal: HessianDiagonal, truth: float) -> bool:
    """Whether the interval of (17) holds it."""
    low, high = ish.normalized_sharpness(oracle, diagonal=diagonal).interval()
    return low * (1 - ROUNDING) <= truth <= high * (1 + ROUNDING)


def rows(title: str, stage: Stage, data: Data, estimators: list[str]) -> Iterator[Row]:
    """Measure a network with these estimators and every budget."""
    oracle, exact = ish.oracle(stage.model, data), exact_diagonal(stage.model, *data)
    truth, size = values(oracle, exact), sum(group.size for group in oracle.groups)
    norm = np.sqrt(sum(np.sum(h**2) for h in exact.arrays.values()))
    unit = min(seconds(lambda: oracle.gradient(oracle.parameters))[1] for _ in range(10))
    for name in estimators:
        run, budgets, seeds, has_interval = ESTIMATORS[name]
        for budget in budgets:
            try:
                timed = [seconds(lambda r=run, b=budget, s=seed: r(oracle, b, s)) for seed in range(seeds)]
            except ish.errors.ArgumentError:  # it takes more
                continue
            found = [diagonal for diagonal, _ in timed]
            off = [sum(np.sum((h - exact[n].values) ** 2) for n, h in d.arrays.items()) ** 0.5 / norm for d in found]
            errors = np.array([values(oracle, diagonal) for diagonal in found]) / truth - 1
            held = sum(holds(oracle, diagonal, truth[0]) for diagonal in found) if has_interval else 0
            normalized, matrix, pacgen = map(root_mean_square, errors.T)
            mean, deviation, cost = errors[:, 0].mean(), errors[:, 0].std(ddof=1), min(cost for _, cost in timed) / unit
            yield Row(
                *(title, stage.name, stage.loss, size, name, budget, cost, root_mean_square(off)),
                *(normalized, mean, deviation, matrix, pacgen, held, seeds),
            )


def root_mean_square(errors: Any) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def seconds(function: Callable[[], Any]) -> tuple[Any, float]:
    """A result, and the processor time that it took."""
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def kept() -> list[Row]:
    """What was measured before."""
    path, types = KEPT.with_suffix(".csv"), get_type_hints(Row)
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [Row(**{name: types[name](cell) for name, cell in row.items()}) for row in csv.DictReader(file)]


def keep(found: list[Row]) -> None:
    """Write all rows, network by network."""
    order, estimators = list(NETWORKS), list(ESTIMATORS)
    with KEPT.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        for row in sorted(
            found, key=lambda row: (order.index(row.network), STAGES.index(row.stage), estimators.index(row.estimator))
        ):
            writer.writerow([f"{cell:.3g}" if isinstance(cell, float) else cell for cell in row])


QUANTITIES = {"diagonal": "diagonal", "normalized": "(17)", "matrix": "(13)", "pacgen": "PACGen"}


def tables(found: list[Row]) -> Iterator[str]:
    """Lines of Markdown: (17) of every network, and the medians over all networks."""
    of = {(row.network, row.stage, row.estimator, row.budget): row for row in found}
    columns = " | ".join(f"{name}, 64" for name in ESTIMATORS)
    yield f"| network | stage | loss | budget | layer draws: error of (17) | held by | gradients | {columns} |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |" + " ---: |" * len(ESTIMATORS)
    for network, stage in dict.fromkeys((row.network, row.stage) for row in found):
        row = of[network, stage, "layer draws", 100 if stage == STAGES[-1] else 200]
        at_64 = [of.get((network, stage, name, 64)) for name in ESTIMATORS]
        others = ["-" if other is None else percent(other.normalized_mean, "+.1f") for other in at_64]
        error = percent(row.normalized_mean, "+.2f")
        held = "-" if error == "exact" else f"{row.held} of {row.seeds}"
        error += "" if error == "exact" else f" ± {percent(row.normalized_deviation, '.2f')}"
        cells = stage, f"{row.loss:.3f}", str(row.budget), error, held, f"{row.gradients:.0f}"
        yield f"| {' | '.join((network, *cells, *others))} |"
    yield ""
    yield f"| stage | estimator | budget | networks | gradients | {' | '.join(QUANTITIES.values())} |"
    yield "| --- | --- | ---: | ---: | ---: |" + " ---: |" * len(QUANTITIES)
    for stage, estimator in product(STAGES, ESTIMATORS):
        for budget in ESTIMATORS[estimator].budgets:
            chosen = [row for row in found if (row.stage, row.estimator, row.budget) == (stage, estimator, budget)]
            if chosen:
                errors = [percent(median(chosen, name), ".3g") for name in QUANTITIES]
                counts = str(budget), str(len(chosen)), f"{median(chosen, 'gradients'):.0f}"
                yield f"| {' | '.join((stage, estimator, *counts, *errors))} |"


def median(found: list[Row], name: str) -> float:
    return float(np.median([getattr(row, name) for row in found]))


def percent(error: float, form: str) -> str:
    return "exact" if abs(error) < ROUNDING else f"{100 * error:{form}} %"


def draw(found: list[Row]) -> None:
    """Errors against gradients: a thin line for each network, a thick one for the median; what is exact is at the bottom."""
    figure, axes = plt.subplots(len(STAGES), 4, figsize=(12, 8), sharex=True, sharey=True, layout="constrained")
    for stage, across in zip(STAGES, axes, strict=True):
        for (quantity, words), axis in zip(QUANTITIES.items(), across, strict=True):
            for number, name in enumerate(ESTIMATORS):
                chosen, color = [r for r in found if (r.stage, r.estimator) == (stage, name)], f"C{number}"
                for network in NETWORKS:
                    points = [(r.gradients, max(getattr(r, quantity), LEAST)) for r in chosen if r.network == network]
                    axis.loglog(*np.transpose(points or [(np.nan, np.nan)]), color=color, alpha=0.3, linewidth=0.8)
                by_budget = [[r for r in chosen if r.budget == budget] for budget in ESTIMATORS[name].budgets]
                points = [(median(rs, "gradients"), max(median(rs, quantity), LEAST)) for rs in by_budget if rs]
                axis.loglog(*np.transpose(points), "o-", color=color, label=name)
            axis.grid(alpha=0.3)
            axis.set_title(f"{words}, {stage}")
    axes[0, 0].legend(fontsize=8, loc="lower left")
    figure.supxlabel("cost, in gradients")
    figure.supylabel("relative error (root mean square)")
    figure.savefig(KEPT.with_suffix(".png"), dpi=110)


LEAST = 1e-4


def main() -> None:
    """Measure what is named, print the tables, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), help="that are measured; by default all")
    parser.add_argument("--estimators", nargs="*", default=list(ESTIMATORS), help="likewise")
    arguments = parser.parse_args()
    digits = load_digits()
    data = torch.tensor(digits.data[:EXAMPLES] / 8 - 1).reshape(-1, 8, 8), torch.tensor(digits.target[:EXAMPLES])
    for title in arguments.networks:
        reached = stages(NETWORKS[title], *data)
        measured = [row for stage in reached for row in rows(title, stage, data, arguments.estimators)]
        older = [row for row in kept() if row.network != title or row.estimator not in arguments.estimators]
        keep(older + measured)
    found = kept()
    print(*tables(found), sep="\n")
    draw(found)


if __name__ == "__main__":
    main()
