"""What a budget buys: the errors of normalized sharpness and of the trace, and what they cost, against exact diagonals.

    python docs/experiments/budgets.py

A GELU perceptron early in training, and a trained encoder of ``layer_draws.py``, in float64 on 256 of scikit-learn's digits. Beside the
trace from draws at layers stands Hutchinson's, of the groups that are not exact, for as many gradients at two a product. The cost is processor time.
"""

from __future__ import annotations

from collections.abc import Callable
from math import fsum
from typing import Any

import layer_draws
import numpy as np
import torch
from layer_draws import Case, Encoder, exact_diagonal, seconds, trained
from sklearn.datasets import load_digits
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_groups import exact_diagonal as affine_diagonal
from invariant_sharpness.estimators.hutchinson import trace_samples

SEEDS = 8


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 48), nn.GELU(), nn.Linear(48, 10)
    )  # fmt: skip


CASES = (
    (Case("perceptron, early", perceptron, 30), (30, 60, 120)),
    (Case("encoder, trained", lambda: Encoder(2, nn.LayerNorm, gated=False), 250), (100, 200)),
)


def hutchinson(oracle: Any, budget: float, seed: int) -> float:
    """The trace: exact where the outputs are affine, and by probes elsewhere."""
    known = affine_diagonal(oracle, seed=seed)
    rest = frozenset(group.name for group in oracle.groups) - known.groups.keys()
    draws = trace_samples(oracle, rest, max(2, int((budget - oracle.outputs_per_example) / 2)), seed)
    return fsum(float(h.sum()) for h in known.arrays.values()) + fsum(float(d.mean()) for d in draws.values())


def error(value: Callable[[int], float], truth: float) -> str:
    """Mean and standard deviation of the relative error over the seeds, in percent."""
    errors = 100 * (np.array([value(seed) for seed in range(SEEDS)]) / truth - 1)
    return f"{errors.mean():+.2f} ± {errors.std():.2f} %"


def main() -> None:
    """Print the table in Markdown."""
    digits = load_digits()
    x = torch.tensor(digits.data[: layer_draws.EXAMPLES] / 8 - 1).reshape(-1, 8, 8)
    y = torch.tensor(digits.target[: layer_draws.EXAMPLES])
    print("| network | budget | what it buys | cost | error of (17) | of the trace | of Hutchinson's trace |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for case, budgets in CASES:
        model = trained(case, x, y)
        oracle, exact = ish.oracle(model, (x, y)), exact_diagonal(model, x, y)
        sharpness, trace = (m(oracle, diagonal=exact).value for m in (ish.normalized_sharpness, ish.hessian_trace))
        gradient = min(seconds(lambda o=oracle: o.gradient(o.parameters)) for _ in range(9))
        for budget in budgets:
            of_budget = lambda seed, o=oracle, b=budget: ish.hessian_diagonal(o, budget=b, seed=seed)  # noqa: E731
            cost = min(seconds(lambda f=of_budget: f(0)) for _ in range(2)) / gradient
            found = [of_budget(seed) for seed in range(SEEDS)]
            cells = [
                error(lambda seed, o=oracle, f=found: ish.normalized_sharpness(o, diagonal=f[seed]).value, sharpness),
                error(lambda seed, o=oracle, f=found: ish.hessian_trace(o, diagonal=f[seed]).value, trace),
                error(lambda seed, o=oracle, b=budget: hutchinson(o, b, seed), trace),
            ]
            print(f"| {case.title} | {budget} | {found[0].plan.words} | {cost:.0f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
