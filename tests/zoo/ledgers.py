"""Random ledgers, and the statistics by their definitions: loops over networks, with nothing shared."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from math import exp, log, sqrt
from typing import Any

import numpy as np

Row = dict[str, Any]
NAMES = ("lr", "width", "depth")


def random_ledger(seed: int, *, repeats: int = 3, ties: bool = False, kept: float = 1.0) -> list[Row]:
    """A grid of 3 x 2 x 2 configurations; with ties measure and gap have few values; ``kept`` is the share of rows that stay."""
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for lr in (0.1, 0.2, 0.4):
        for width in (8, 16):
            for depth in (1, 2):
                for repeat in range(repeats):
                    gap = 0.2 * lr + 0.002 * width + 0.1 * generator.random()
                    measure = gap + 0.1 * generator.random()
                    if ties:
                        gap, measure = round(gap, 2), round(20 * measure)
                    rows.append({"lr": lr, "width": width, "depth": depth, "seed": repeat, "gap": gap, "mu": measure})
    chosen = generator.random(len(rows)) < kept
    return [row for row, keep in zip(rows, chosen, strict=True) if keep]


def sign(number: float) -> int:
    return (number > 0) - (number < 0)


def configuration(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in NAMES)


def tau(rows: list[Row], *, tied: bool) -> float | None:
    """tau-a, or tau-b if ``tied``; None where it is not defined."""
    pairs = list(combinations(rows, 2))
    signs = [(sign(one["mu"] - two["mu"]), sign(one["gap"] - two["gap"])) for one, two in pairs]
    agreements = sum(a * b for a, b in signs)
    size = sqrt(sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs)) if tied else len(pairs)
    return agreements / size if size else None


def psi(rows: list[Row], *, tied: bool) -> float:
    means = []
    for name in NAMES:
        cells = defaultdict(list)
        for row in rows:
            cells[tuple(row[other] for other in (*NAMES, "seed") if other != name)].append(row)
        values = [value for cell in cells.values() if len(cell) > 1 and (value := tau(cell, tied=tied)) is not None]
        if values:
            means.append(sum(values) / len(values))
    return sum(means) / len(means)


def information(rows: list[Row]) -> float:
    """K by its definition: probabilities of (V_mu, V_g, U_S) over ordered pairs."""
    shares = []
    for size in range(3):
        for known in combinations(NAMES, size):
            triples = [
                (one["mu"] > two["mu"], one["gap"] > two["gap"], tuple((one[name], two[name]) for name in known))
                for one in rows
                for two in rows
                if one is not two
            ]
            joint, total = Counter(triples), len(triples)
            of_known = Counter(u for *_, u in triples)
            of_measure = Counter((v, u) for v, _, u in triples)
            of_gap = Counter((g, u) for _, g, u in triples)
            mutual = sum(
                n / total * log(n * of_known[u] / (of_measure[v, u] * of_gap[g, u])) for (v, g, u), n in joint.items()
            )
            entropy = -sum(n / total * log(n / of_known[u]) for (_, u), n in of_gap.items())
            if entropy > 0:
                shares.append(mutual / entropy)
    return min(shares)


def sign_errors(rows: list[Row], *, smallest: float, test_examples: int) -> list[float]:
    """The losses of all directed environments, sorted."""
    by_configuration = defaultdict(list)
    for row in rows:
        by_configuration[configuration(row)].append(row)
    losses = []
    for one, first in by_configuration.items():
        for other, second in by_configuration.items():
            if sum(a != b for a, b in zip(one, other, strict=True)) != 1:
                continue
            weights, errors = [], []
            for a in first:
                for b in second:
                    certain = max(0.0, 1 - 2 * exp(-2 * test_examples * (abs(a["gap"] - b["gap"]) / 2) ** 2)) ** 2
                    weights.append(max(0.0, certain - 0.5))
                    errors.append((1 - sign(a["mu"] - b["mu"]) * sign(a["gap"] - b["gap"])) / 2)
            total = sum(weights)
            if total and total**2 / sum(w * w for w in weights) >= smallest:
                losses.append(sum(w * e for w, e in zip(weights, errors, strict=True)) / total)
    return sorted(losses)
