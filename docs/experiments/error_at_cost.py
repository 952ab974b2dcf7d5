"""The error of a trace and of normalized sharpness at the cost of 10, 30 and 100 gradients, beside other libraries.

    pip install --group peers
    python docs/experiments/error_at_cost.py --picture docs/_static/error_at_cost.png

The network of work A, trained on scikit-learn's digits at 28 x 28 pixels. The truth is written out
in float64. The unit is one gradient of the same network on the same data in a plain loop of the same
framework, run before every measurement. Other libraries' diagonals go into (17) by this library's solver.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import peers
import scipy.ndimage
import scipy.special
import torch
import works
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HessianDiagonal
from invariant_sharpness.estimators.probed_diagonal import probed_groups
from invariant_sharpness.estimators.sampled_diagonal import sampled_groups

BUDGETS = (10, 30, 100)
PILOTS = (6, 24)

Data = list[tuple[torch.Tensor, torch.Tensor]]
Run = Callable[[int, int], float]
"""A value from a number of products and a seed."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to a number; one without products is run as it is."""

    run: Run
    unit: Callable[[], object]
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured: root mean square of the relative errors over the seeds, and the median of the costs."""

    products: int
    gradients: float
    error: float


def digits() -> Data:
    """1,792 images of 784 pixels, in batches."""
    images, labels = load_digits(return_X_y=True)
    large = np.stack([scipy.ndimage.zoom(image.reshape(8, 8), 3.5, order=1) for image in images])
    x, y = torch.tensor(large.reshape(-1, 784) / 16, dtype=torch.float32), torch.tensor(labels)
    return [(x[start : start + works.BATCH], y[start : start + works.BATCH]) for start in range(0, 1792, works.BATCH)]


def trained_network(data: Data) -> Any:
    """The network of work A after ten passes over the data."""
    torch.manual_seed(0)
    network = works.torch_network("A")
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(10):
        for x, y in data:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
    return network


def true_diagonal(network: Any, data: Data) -> dict[str, Any]:
    r"""Diagonal of the Hessian, written out in float64.

    With :math:`\delta_k` the derivative of logit k in a layer's outputs and :math:`p` the softmax, an example whose layer has the
    inputs x adds :math:`(\sum_k p_k \delta_k^2 - (\sum_k p_k \delta_k)^2) (x^2)^T`: the network is piecewise linear.
    """
    parameters = {name: p.detach().double().numpy() for name, p in network.named_parameters()}
    weights, biases = list(parameters.values())[::2], list(parameters.values())[1::2]
    inputs = [torch.cat([x for x, _ in data]).double().numpy()]
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        inputs.append(np.maximum(inputs[-1] @ W.T + b, 0))
    p = scipy.special.softmax(inputs[-1] @ weights[-1].T + biases[-1], axis=1)
    delta = np.broadcast_to(np.eye(p.shape[1]), (*p.shape, p.shape[1]))
    diagonals = []
    for W, x in zip(weights[::-1], inputs[::-1], strict=True):
        squares = np.einsum("nk,nko->no", p, delta**2) - np.einsum("nk,nko->no", p, delta) ** 2
        diagonals += [squares.mean(0), squares.T @ x**2 / len(x)]
        delta = (delta @ W) * (x > 0)[:, None]
    return dict(zip(parameters, diagonals[::-1], strict=True))


def normalized(oracle: ish.CurvatureOracle, diagonal: dict[str, Any]) -> float:
    """(17) with a given diagonal; its negative entries are clipped."""
    known = HessianDiagonal({name: GroupDiagonal(np.asarray(h), "exact") for name, h in diagonal.items()})
    return ish.normalized_sharpness(oracle, diagonal=known).value


def own_methods(oracle: Any, unit: Callable[[], object]) -> dict[str, dict[str, Method]]:
    """This library's."""
    names = frozenset(group.name for group in oracle.groups if len(group.shape) > 1)

    def probed(m: int, seed: int) -> float:
        return ish.normalized_sharpness(
            oracle, diagonal=HessianDiagonal(probed_groups(oracle, names, m, seed), m)
        ).value

    def sampled(m: int, seed: int) -> float:
        return ish.normalized_sharpness(
            oracle, diagonal=HessianDiagonal(sampled_groups(oracle, names, m, seed), m)
        ).value

    traces = {
        "hessian_trace (exact)": Method(lambda _m, _s: ish.hessian_trace(oracle).value, unit, exact=True),
        "xtrace": Method(lambda m, seed: ish.xtrace(oracle, num_matvecs=m // 2 * 2, seed=seed).value, unit),
        "hutch_plus_plus_trace": Method(
            lambda m, seed: ish.hutch_plus_plus_trace(oracle, num_matvecs=m, seed=seed).value, unit
        ),
        "hutchinson_trace": Method(lambda m, seed: ish.hutchinson_trace(oracle, num_matvecs=m, seed=seed).value, unit),
    }
    sharpness = {
        "normalized_sharpness (exact)": Method(lambda _m, _s: ish.normalized_sharpness(oracle).value, unit, exact=True),
        "sampled outputs": Method(sampled, unit),
        "two-stage probes": Method(probed, unit),
    }
    return {"trace": traces, "normalized sharpness": sharpness}


def seeded(function: Callable[[int], Any]) -> Run:
    """A function of torch's global random numbers."""

    def run(products: int, seed: int) -> float:
        torch.manual_seed(seed)
        return float(function(products))

    return run


def torch_methods(oracle: Any, network: Any, data: Data, unit: Callable[[], object]) -> dict[str, dict[str, Method]]:
    """curvlinops' and PyHessian's."""
    import curvlinops

    hessian = peers.curvlinops_hessian(network, data)
    pyhessian = peers.pyhessian_hessian(network, data)

    def split(flat: torch.Tensor) -> dict[str, Any]:
        sizes = [parameter.numel() for parameter in network.parameters()]
        named = zip(network.named_parameters(), flat.split(sizes), strict=True)
        return {name: part.reshape(parameter.shape).double().numpy() for (name, parameter), part in named}

    def even(estimator: Callable[..., Any], m: int) -> Any:
        return estimator(hessian, m // 2 * 2)

    traces = {
        "curvlinops xtrace": seeded(partial(even, curvlinops.xtrace)),
        "curvlinops hutchpp_trace": seeded(lambda m: curvlinops.hutchpp_trace(hessian, m // 3 * 3)),
        "curvlinops hutchinson_trace": seeded(lambda m: curvlinops.hutchinson_trace(hessian, m)),
        "PyHessian trace": seeded(lambda m: np.mean(pyhessian.trace(maxIter=m, tol=0))),
    }
    sharpness = {
        "curvlinops xdiag": seeded(lambda m: normalized(oracle, split(even(curvlinops.xdiag, m)))),
        "curvlinops hutchinson_diag": seeded(
            lambda m: normalized(oracle, split(curvlinops.hutchinson_diag(hessian, m)))
        ),
    }
    return {
        "trace": {name: Method(run, unit) for name, run in traces.items()},
        "normalized sharpness": {name: Method(run, unit) for name, run in sharpness.items()},
    }


def jax_methods(network: Any, data: Data) -> dict[str, dict[str, Method]]:
    """matfree's, on the same network in JAX, compiled before it is timed."""
    from matfree import stochtrace

    apply, parameters = works.jax_network("A")
    for number, parameter in enumerate(network.parameters()):
        kind = "matrix" if parameter.ndim == 2 else "bias"
        parameters[f"{kind}{number // 2}"] = jnp.asarray(parameter.detach().numpy().T)
    arrays = [(jnp.asarray(x.numpy()), jnp.asarray(y.numpy())) for x, y in data]
    product, size = peers.jax_product(apply, parameters), sum(p.size for p in parameters.values())
    unit = works.jax_gradient(apply, parameters, arrays)

    def trace(estimator: Any, integrand: Any, m: int, seed: int) -> float:
        sampler = stochtrace.sampler_signs(jnp.zeros(size), num=m)
        estimate = estimator(integrand, sampler)
        run = compiled.setdefault((integrand, m), jax.jit(lambda key, data: estimate(lambda v: product(v, data), key)))
        return float(run(jax.random.key(seed), arrays))

    compiled: dict[Any, Any] = {}
    monte_carlo, leave_one_out = stochtrace.monte_carlo_trace(), stochtrace.leave_one_out_xtrace()
    return {
        "trace": {
            "matfree xtrace": Method(
                lambda m, seed: trace(stochtrace.estimator_leave_one_out, leave_one_out, m // 2, seed), unit
            ),
            "matfree monte_carlo_trace": Method(
                lambda m, seed: trace(stochtrace.estimator_monte_carlo, monte_carlo, m, seed), unit
            ),
        }
    }


def measured(method: Method, products: int, truth: float, seeds: int) -> Point:
    """Errors and costs of runs with different seeds; a first run, which may compile, does not count."""
    method.run(products, seeds)
    values, costs = [], []
    for seed in range(seeds):
        unit, (value, seconds) = (
            min(timed(method.unit)[1] for _ in range(2)),
            timed(partial(method.run, products, seed)),
        )
        values.append(value)
        costs.append(seconds / unit)
    return Point(products, float(np.median(costs)), float(np.sqrt(np.mean((np.array(values) / truth - 1) ** 2))))


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """A result, and the seconds that it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def points(method: Method, truth: float, seeds: int) -> list[Point]:
    """At as many products as every budget buys; two pilots tell what they cost."""
    if method.exact:
        return [measured(method, 0, truth, 2)]
    few, more = (measured(method, products, truth, 2).gradients for products in PILOTS)
    slope = max(more - few, 0.1) / (PILOTS[1] - PILOTS[0])
    counts = [max(PILOTS[0], round(PILOTS[0] + (budget - few) / slope)) for budget in BUDGETS]
    return [measured(method, count, truth, seeds) for count in counts]


def draw(found: dict[str, dict[str, list[Point]]], path: Path) -> None:
    """Relative error against gradients."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for axis, (quantity, rows) in zip(axes, found.items(), strict=True):
        for name, row in rows.items():
            peer = name.split()[0] in {"curvlinops", "PyHessian", "matfree"}
            style = {"marker": "s", "linestyle": "--"} if peer else {"marker": "o", "linestyle": "-"}
            axis.loglog([p.gradients for p in row], [p.error for p in row], label=name, **style)
        axis.set(xlabel="cost, in gradients", ylabel="relative error (root mean square)", title=quantity)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the table, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="runs of every estimator and budget")
    parser.add_argument("--picture", type=Path, help="where to draw the errors")
    arguments = parser.parse_args()
    data = digits()
    network = trained_network(data)
    oracle, unit = ish.oracle(network, data), works.torch_gradient(network, data)
    diagonal = true_diagonal(network, data)
    truths = {"trace": sum(h.sum() for h in diagonal.values()), "normalized sharpness": normalized(oracle, diagonal)}
    table = Table("quantity", "method", "products", "cost, in gradients", "relative error")
    found: dict[str, dict[str, list[Point]]] = {quantity: {} for quantity in truths}
    for group in (own_methods(oracle, unit), torch_methods(oracle, network, data, unit), jax_methods(network, data)):
        for quantity, methods in group.items():
            for name, method in methods.items():
                found[quantity][name] = points(method, truths[quantity], arguments.seeds)
                print(quantity, name, found[quantity][name], flush=True)
    for quantity, rows in found.items():
        for name, row in rows.items():
            for p in row:
                table.add_row(quantity, name, str(p.products or "-"), f"{p.gradients:.1f}", f"{p.error:.1e}")
    Console(width=110).print(table)
    if arguments.picture:
        draw(found, arguments.picture)


if __name__ == "__main__":
    main()
