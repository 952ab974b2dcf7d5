"""What it takes to measure networks of other people, and which of their weights are certified exact.

    python docs/experiments/real_networks.py
    python docs/experiments/real_networks.py "tiny ViT" --budgets 64 256 1024 20000

The networks and their data are those of ``real_models.py``. Everything is in single
precision. Each measurement has a process of its own, whose peak is the memory of its row.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from real_models import (
    Problem,
    bert,
    convnext,
    efficientnet,
    flax_vit,
    gpt2,
    next_bytes,
    resnet18,
    vision_transformer,
)

import invariant_sharpness as ish
from invariant_sharpness.estimators.probed_diagonal import probed_groups
from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT
from invariant_sharpness.protocol import CurvatureOracle

Diagonal = Callable[[CurvatureOracle, frozenset[str], int], ish.HessianDiagonal]
"""The diagonal of named groups, within a budget of gradients."""


def within(oracle: CurvatureOracle, names: frozenset[str], budget: int) -> ish.HessianDiagonal:
    return ish.hessian_diagonal(oracle, parameters=names, budget=budget)


def all_probed(oracle: CurvatureOracle, names: frozenset[str], budget: int) -> ish.HessianDiagonal:
    """From products with the Hessian alone, as if nothing were known of the network."""
    probes = int(budget / GRADIENTS_PER_PRODUCT)
    return ish.HessianDiagonal(probed_groups(oracle, names, probes, seed=0), probes)


@dataclass(frozen=True)
class Network:
    """A row of the table: what is measured, on what, how, and within how many gradients where nothing else is said."""

    oracle: Callable[[], CurvatureOracle]
    data: str
    diagonal: Diagonal = within
    budget: int = 128


def torch_network(build: Callable[[], Problem], data: str, budget: int = 128, **options: Any) -> Network:
    return Network(lambda: ish.oracle(*build(), **options), data, budget=budget)


NETWORKS = {
    "ResNet-18": torch_network(resnet18, "8 images"),
    "ResNet-18, all probed": Network(lambda: ish.oracle(*resnet18()), "8 images", all_probed),
    "ResNet-18 with GELU": torch_network(lambda: resnet18(activation="gelu"), "8 images"),
    "ViT-Ti": torch_network(vision_transformer, "16 images", 312),
    "ConvNeXt-tiny": torch_network(convnext, "4 images", 312),
    "GPT-2 of 4 layers": torch_network(gpt2, "8 texts of 64 bytes", 256, forward=next_bytes),
    "GPT-2 of 4 layers, untied": torch_network(
        lambda: gpt2(tied=False), "8 texts of 64 bytes", 256, forward=next_bytes
    ),
    "BERT-tiny": torch_network(bert, "16 texts of 64 bytes"),
    "ViT of Flax": Network(flax_vit, "16 images"),
    "EfficientNet-B0 of Keras": Network(efficientnet, "8 images", budget=400),
    "tiny ViT": torch_network(lambda: vision_transformer(1, 16, 2, 16), "16 images"),
}
"""All but the last, whose Hessian is small enough to be computed column by column, are measured by default."""

COLUMNS = (
    *("network", "parameters", "data", "budget", "weights"),
    *("normalized_sharpness", "95 % interval", "matrix_normalized_sharpness"),
    *("seconds", "gradients", "peak memory, MB"),
)


def row(name: str, budget: int) -> list[str]:
    """Measure in this process. Time and memory are those of normalized sharpness."""
    network = NETWORKS[name]
    oracle = network.oracle()
    gradient = min(seconds(lambda: oracle.gradient(oracle.parameters)) for _ in range(3))
    weights = frozenset(group.name for group in oracle.groups if group.is_weight)
    started = time.process_time()
    diagonal = network.diagonal(oracle, weights, budget)
    normalized = ish.normalized_sharpness(oracle, diagonal=diagonal)
    elapsed, memory = time.process_time() - started, peak_memory()
    by_layer = ish.matrix_normalized_sharpness(oracle, diagonal=diagonal)
    low, high = normalized.interval()
    return [
        *(name, f"{sum(group.size for group in oracle.groups):,}", network.data, str(budget)),
        how(diagonal),
        *(f"{normalized.value:.6g}", f"{low:.4g} to {high:.4g}", f"{by_layer.value:.6g} ({by_layer.error_text()})"),
        *(f"{elapsed:.1f}", f"{elapsed / gradient:.0f}", f"{memory:.0f}"),
    ]


def how(diagonal: ish.HessianDiagonal) -> str:
    """How many groups were obtained in which way."""
    counted = Counter(group.method for group in diagonal.groups.values()).most_common()
    return ", ".join(f"{count} {method}" for method, count in counted)


def seconds(function: Callable[[], object]) -> float:
    """How much processor time it takes."""
    started = time.process_time()
    function()
    return time.process_time() - started


def peak_memory() -> float:
    """Of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def in_own_process(name: str, budget: int) -> str:
    """The row, as a line of Markdown."""
    command = [sys.executable, __file__, name, "--budgets", str(budget), "--here"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def line(cells: list[str] | tuple[str, ...]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NETWORKS)[:-1], help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--budgets", type=int, nargs="+", help="in gradients; by default one that is enough")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(line(row(given.names[0], given.budgets[0])))
        return
    print(line(COLUMNS), line(["---"] * len(COLUMNS)), sep="\n")
    for name, budget in ((n, b) for n in given.names for b in given.budgets or [NETWORKS[n].budget]):
        print(in_own_process(name, budget), flush=True)


if __name__ == "__main__":
    main()
