"""Eigenvalues and the spectral density of a network on digits: this library, PyHessian and curvlinops beside the dense Hessian.

    pip install --group peers
    python docs/experiments/spectrum.py --picture docs/_static/spectrum.png

A 64-64-10 ReLU network of 4,810 parameters in float32, trained on 500 of scikit-learn's digits. The truth is the dense Hessian
of the same network in float64 (``torch.func``), with eigenvalues by LAPACK.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import peers
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import nn

import invariant_sharpness as ish

PROBES = 8
STEPS = 40
LEADING = 5

Nodes = tuple[Any, Any]
"""Eigenvalues and the share of all that each of them stands for."""


def digits_network() -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The trained network and its data."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images[:500] / 16, dtype=torch.float32), torch.tensor(labels[:500])
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    return network, x, y


def dense_eigenvalues(network: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """All eigenvalues, in ascending order."""
    exact = copy.deepcopy(network).double()
    flat = torch.nn.utils.parameters_to_vector(exact.parameters()).detach()
    shapes = {name: parameter.shape for name, parameter in exact.named_parameters()}

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parts = vector.split([shape.numel() for shape in shapes.values()])
        named = {name: part.reshape(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(exact, named, x.double()), y)

    hessian = torch.func.jacrev(torch.func.grad(loss), chunk_size=256)(flat)
    return torch.linalg.eigvalsh((hessian + hessian.mT) / 2).numpy()


def leading_by_curvlinops(hessian: Any) -> Any:
    """The largest eigenvalues, by SciPy on curvlinops' linear operator, as its documentation shows."""
    import scipy.sparse.linalg

    return np.sort(scipy.sparse.linalg.eigsh(hessian.to_scipy(), k=LEADING, which="LA", return_eigenvectors=False))[
        ::-1
    ]


def nodes_of_density(density: ish.SpectralDensity) -> Nodes:
    """Known eigenvalues, and the nodes of all probes for the others."""
    known, rules = density.known, density.rules
    rest = (1 - len(known) / density.size) / len(rules)
    values = np.concatenate([known, *(rule.nodes for rule in rules)])
    return values, np.concatenate([np.full(len(known), 1 / density.size), *(rest * rule.weights for rule in rules)])


def ritz_values(hessian: Any) -> Nodes:
    """PyHessian's Ritz values, and their weights."""
    values, weights = peers.pyhessian_density(hessian, STEPS, PROBES)
    return np.concatenate(values), np.concatenate(weights) / PROBES


def nodes_of_grid(hessian: Any) -> Nodes:
    """curvlinops' smoothed density, at the points of its grid."""
    import curvlinops

    grid, density = curvlinops.lanczos_approximate_spectrum(hessian, STEPS, num_points=4096, num_repeats=PROBES)
    return grid.numpy(), (density / density.sum()).numpy()


def distance(nodes: Nodes, eigenvalues: Any) -> float:
    """Between the distributions (Wasserstein's, of first order), over the mean size of an eigenvalue."""
    import scipy.stats

    values, weights = nodes
    weights = np.clip(weights, 0, None)
    return float(scipy.stats.wasserstein_distance(values, eigenvalues, weights) / np.abs(eigenvalues).mean())


def draw(found: dict[str, Nodes], eigenvalues: Any, path: Path) -> None:
    """How many eigenvalues lie above each point."""
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    ranks = len(eigenvalues) - np.arange(len(eigenvalues))
    axis.step(eigenvalues, ranks, color="black", linewidth=2.5, label="dense Hessian")
    for name, (values, weights) in found.items():
        order = np.argsort(values)
        above = weights[order][::-1].cumsum()[::-1] * len(eigenvalues)
        axis.step(values[order], above, label=name, alpha=0.8)
    axis.set(xscale="symlog", yscale="log", xlabel="eigenvalue", ylabel="number of eigenvalues at least as large")
    axis.set_xscale("symlog", linthresh=1e-3)
    axis.set_ylim(0.5, None)
    axis.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the tables, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="where to draw the spectrum")
    arguments = parser.parse_args()
    network, x, y = digits_network()
    eigenvalues = dense_eigenvalues(network, x, y)
    oracle, data = ish.oracle(network, (x, y), batch_size=len(x)), [(x, y)]
    pyhessian, curvlinops = peers.pyhessian_hessian(network, data), peers.curvlinops_hessian(network, data)
    torch.manual_seed(0)
    leading: dict[str, Callable[[], Any]] = {
        "this library": lambda: np.array(
            [p.value for p in ish.eigenpairs(oracle, largest=LEADING, smallest=0).largest]
        ),
        "PyHessian": lambda: np.array(pyhessian.eigenvalues(maxIter=100, tol=1e-3, top_n=LEADING)[0]),
        "curvlinops and SciPy": lambda: leading_by_curvlinops(curvlinops),
    }
    table = Table("relative error of", *(f"eigenvalue {i + 1}" for i in range(LEADING)))
    table.add_row("dense value", *(f"{value:.6f}" for value in eigenvalues[::-1][:LEADING]))
    for name, function in leading.items():
        errors = np.abs(function() / eigenvalues[::-1][:LEADING] - 1)
        table.add_row(name, *(f"{error:.0e}" for error in errors))
    Console(width=110).print(table)
    known = ish.eigenpairs(oracle, largest=10, smallest=0)
    found = {
        "this library": nodes_of_density(ish.spectral_density(oracle, probes=PROBES, steps=STEPS)),
        "this library, 10 known": nodes_of_density(
            ish.spectral_density(oracle, probes=PROBES, steps=STEPS, eigenpairs=known)
        ),
        "PyHessian": ritz_values(pyhessian),
        "curvlinops": nodes_of_grid(curvlinops),
    }
    table = Table(f"{PROBES} probes of {STEPS} steps", "distance of the distributions, over the mean |eigenvalue|")
    for name, nodes in found.items():
        table.add_row(name, f"{distance(nodes, eigenvalues):.2%}")
    Console(width=110).print(table)
    if arguments.picture:
        draw(found, eigenvalues, arguments.picture)


if __name__ == "__main__":
    main()
