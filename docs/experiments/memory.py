"""How much memory a measurement takes beside that of a gradient, in copies of the parameters in their own precision.

    python docs/experiments/memory.py [METRIC ...] [--device cuda]

A GELU perceptron of three million parameters in float32. Each figure is from a process of its own: its peak less the peak after one gradient, over the
size of the parameters. Blocks of vectors are of one vector each, since ``memory_limit`` grants them more; see ``--limit``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import invariant_sharpness as ish

WIDTHS = (784, 1024, 1024, 1024, 10)
EXAMPLES, DRAWS = 16, 16

Measure = Callable[[Any, int], object]

METRICS: dict[str, Measure] = {
    "hessian_vector_product": lambda o, _: o.hessian_vector_product(o.parameters, ish.prng.signs(o, 0, 0)),
    "gauss_newton_diagonal": lambda o, _: o.gauss_newton_diagonal(o.parameters, frozenset(g.name for g in o.groups)),
    "hutchinson_trace": lambda o, draws: ish.hutchinson_trace(o, num_matvecs=draws),
    "probed diagonal": lambda o, draws: probed(o, draws),
    "sampled diagonal": lambda o, draws: sampled(o, draws),
    "hessian_diagonal": lambda o, draws: ish.hessian_diagonal(o, probes=draws),
    "hessian_trace": lambda o, draws: ish.hessian_trace(o, probes=draws),
    "normalized_sharpness": lambda o, draws: ish.normalized_sharpness(o, probes=draws),
    "normalized_sharpness of GaussNewton": lambda o, draws: ish.normalized_sharpness(ish.GaussNewton(o), probes=draws),
    "parameter_normalized_sharpness": lambda o, draws: ish.parameter_normalized_sharpness(o, probes=draws),
    "matrix_normalized_sharpness": lambda o, draws: ish.matrix_normalized_sharpness(o, probes=draws),
    "fisher_rao_norm": lambda o, _: ish.fisher_rao_norm(o),
}


def probed(oracle: Any, draws: int) -> object:
    """What an oracle gets that does not tell its layers apart."""
    from invariant_sharpness.estimators.probed_diagonal import probed_groups

    return probed_groups(oracle, _weights(oracle), draws, 0)


def sampled(oracle: Any, draws: int) -> object:
    """What a network of more than 256 outputs gets."""
    from invariant_sharpness.estimators.sampled_diagonal import sampled_groups

    return sampled_groups(oracle, _weights(oracle), draws, 0)


def _weights(oracle: Any) -> frozenset[str]:
    return frozenset(group.name for group in oracle.groups if group.is_weight)


def oracle_of(examples: int, device: str) -> Any:
    """The network on random examples, in one batch."""
    torch.manual_seed(0)
    pairs = [(nn.Linear(a, b), nn.GELU()) for a, b in pairwise(WIDTHS)]
    model = nn.Sequential(*[module for pair in pairs for module in pair][:-1]).to(device)
    return ish.oracle(model, (torch.randn(examples, WIDTHS[0]), torch.randint(WIDTHS[-1], (examples,))))


def copies(metric: str, examples: int, draws: int, device: str, limit: int) -> float:
    """Peak memory of a metric beside that of a gradient, in copies of the parameters."""
    oracle = oracle_of(examples, device)
    oracle.gradient(oracle.parameters)
    before = _peak(device)
    with ish.memory_limit(limit):
        METRICS[metric](oracle, draws)
    size = sum(group.size for group in oracle.groups) * 4
    return (_peak(device) - before) / size


def _peak(device: str) -> int:
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return torch.cuda.max_memory_allocated()


def in_a_process(*arguments: object) -> float:
    """The same, from a process that has done nothing else."""
    command = [sys.executable, __file__, "--in-process", json.dumps(arguments)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", nargs="*", metavar="METRIC")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int, default=2**20, help="the memory limit in bytes")
    parser.add_argument("--in-process", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.in_process:
        print(copies(*json.loads(given.in_process)))
        return
    columns = {
        f"{DRAWS} draws": (EXAMPLES, DRAWS),
        f"{4 * DRAWS} draws": (EXAMPLES, 4 * DRAWS),
        f"{16 * EXAMPLES} examples": (16 * EXAMPLES, DRAWS),
    }
    table = Table("peak memory, in copies of the parameters", *columns)
    for metric in given.metrics or METRICS:
        found = [in_a_process(metric, *sizes, given.device, given.limit) for sizes in columns.values()]
        table.add_row(metric, *(f"{number:.1f}" for number in found))
        print(metric, *found, file=sys.stderr, flush=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
