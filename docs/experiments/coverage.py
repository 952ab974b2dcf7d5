"""How often the 95 % intervals of the estimators hold the truth, on the Hessian of a network on digits.

    python docs/experiments/coverage.py

A 64-64-10 ReLU network is trained on 500 of scikit-learn's digits; its Hessian, of 4,810 parameters, is computed column by
column. Every estimator then runs with many seeds on the quadratic loss that has this Hessian.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import invariant_sharpness as ish
from invariant_sharpness.cli.demonstration.running import load_digits
from invariant_sharpness.estimators.hutchinson import hutch_plus_plus_trace, hutchinson_trace
from invariant_sharpness.estimators.lanczos import eigenpairs
from invariant_sharpness.estimators.lanczos_quadrature import spectral_density
from invariant_sharpness.estimators.leave_one_out_diagonal import xdiag
from invariant_sharpness.estimators.leave_one_out_trace import left_out_traces
from invariant_sharpness.estimators.target_error import hutchinson_trace_within
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle
from invariant_sharpness_numpy.training import train_network

EXAMPLES = 500


class Run(NamedTuple):
    """A value, its standard error, its interval, and whether it says that it has converged."""

    value: float
    standard_error: float
    interval: tuple[float, float]
    converged: bool


class DenseOracle(FunctionOracle):
    """The quadratic loss of a dense Hessian, in one group; it multiplies with blocks."""

    def __init__(self, hessian: Any) -> None:
        self.hessian = hessian
        group = {"parameters": np.zeros(len(hessian))}
        super().__init__(group, lambda _: 0.0, lambda p: p, lambda _, v: {"parameters": hessian @ v["parameters"]})

    def hessian_vector_products(
        self, parameters: ish.ParameterVector, vectors: Sequence[ish.ParameterVector], /
    ) -> list[ish.ParameterVector]:
        products = self.hessian @ np.stack([vector["parameters"] for vector in vectors], axis=1)
        return [self.from_numpy({"parameters": column}) for column in products.T]


def digits_hessian(hidden: int) -> Any:
    """The dense Hessian of a trained network."""
    digits = load_digits(seed=0)
    x, y = digits.training_inputs[:EXAMPLES], digits.training_labels[:EXAMPLES]
    oracle = NetworkOracle(train_network(x, y, sizes=(64, hidden, 10), seed=0), x, y)
    columns = []
    for group in oracle.groups:
        for index in np.ndindex(*group.shape):
            unit = {other.name: np.zeros(other.shape) for other in oracle.groups}
            unit[group.name][index] = 1.0
            product = oracle.hessian_vector_product(oracle.parameters, oracle.from_numpy(unit))
            columns.append(np.concatenate([np.ravel(array) for array in product.arrays.values()]))
    H = np.stack(columns)
    return (H + H.T) / 2


def run_of(estimate: ish.Estimate) -> Run:
    return Run(estimate.value, estimate.standard_error or 0.0, estimate.interval(), estimate.converged)


def run_with(value: float, error: float, freedom: int) -> Run:
    return run_of(ish.Estimate("", value, "", standard_error=error, degrees_of_freedom=freedom))


def all_runs(oracle: DenseOracle, seeds: int, products: int) -> dict[str, tuple[list[Run], float]]:
    """Runs and true values, by name."""
    H = oracle.hessian
    trace, half = float(np.trace(H)), products // 2
    eigenvalues = np.linalg.eigvalsh(H)
    functions: dict[str, tuple[Callable[[int], ish.Estimate], float]] = {
        "hutchinson_trace": (lambda seed: hutchinson_trace(oracle, num_matvecs=products, seed=seed), trace),
        "hutchinson_trace_within 5 %": (
            lambda seed: hutchinson_trace_within(oracle, relative_error=0.05, seed=seed),
            trace,
        ),
        "hutch_plus_plus_trace": (lambda seed: hutch_plus_plus_trace(oracle, num_matvecs=products, seed=seed), trace),
        "hessian_frobenius_norm": (
            lambda seed: ish.hessian_frobenius_norm(oracle, probes=products, seed=seed),
            float(np.linalg.norm(H)),
        ),
    }
    result = {name: ([run_of(f(seed)) for seed in range(seeds)], truth) for name, (f, truth) in functions.items()}
    left_out = [left_out_traces(oracle, half, seed) for seed in range(seeds)]
    means = [float(found.one.mean()) for found in left_out]
    errors = [found.variance_of_mean() ** 0.5 for found in left_out]
    scatters = [float(np.std(found.one, ddof=1)) / half**0.5 for found in left_out]
    result["xtrace"] = [run_with(m, e, half - 1) for m, e in zip(means, errors, strict=True)], trace
    result["xtrace, scatter alone"] = [run_with(m, e, half - 1) for m, e in zip(means, scatters, strict=True)], trace
    slopes = {
        "all entries": np.ones(len(H)),
        "entries times themselves": np.diag(H),
        "one entry in ten": np.eye(10)[0, np.arange(len(H)) % 10],
    }
    diagonals = [xdiag(oracle, num_matvecs=products, seed=seed)["parameters"] for seed in range(seeds)]
    for name, slope in slopes.items():
        totals = [found.parts @ slope for found in diagonals]
        runs = [run_with(float(t.mean()), float(np.std(t, ddof=1)) / half**0.5, half - 1) for t in totals]
        result[f"xdiag, sum of {name}"] = runs, float(np.diag(H) @ slope)
    ten = eigenpairs(oracle, largest=10, smallest=0)
    for words, known in (("", None), (", 10 known", ten)):
        densities = [spectral_density(oracle, probes=8, steps=12, seed=seed, eigenpairs=known) for seed in range(seeds)]
        for p in (1, 2):
            truth = float(np.sum(np.abs(eigenvalues) ** p) ** (1 / p))
            result[f"schatten_norm({p}){words}"] = [run_of(density.schatten_norm(p)) for density in densities], truth
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=64, help="hidden units of the network")
    parser.add_argument("--seeds", type=int, default=200, help="runs of every estimator")
    parser.add_argument("--products", type=int, default=40, help="Hessian-vector products of a run")
    arguments = parser.parse_args()
    oracle = DenseOracle(digits_hessian(arguments.hidden))
    table = Table("estimator", "error", "bias / error", "reported / true error", "95 % covers", "converged")
    for name, (runs, truth) in all_runs(oracle, arguments.seeds, arguments.products).items():
        off = np.array([run.value for run in runs]) - truth
        errors = np.array([run.standard_error for run in runs])
        true_error = float(np.sqrt(np.mean(off**2)))
        reported = float(np.sqrt(np.mean(errors**2)))
        share = np.mean([run.interval[0] <= truth <= run.interval[1] for run in runs])
        bias = f"{off.mean() / true_error:+.2f} ± {len(runs) ** -0.5:.2f}"
        converged = np.mean([run.converged for run in runs])
        shares = f"{share:.1%}", f"{converged:.0%}"
        table.add_row(name, f"{true_error / abs(truth):.2%}", bias, f"{reported / true_error:.2f}", *shares)
    table.title = f"{len(oracle.hessian)} parameters, {arguments.products} products, {arguments.seeds} seeds"
    Console(width=118).print(table)


if __name__ == "__main__":
    main()
