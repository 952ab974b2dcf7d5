"""How many rescaling symmetries networks have, found from their Jacobian, beside the number that follows from their layers.

    python docs/experiments/symmetries.py
    python docs/experiments/symmetries.py "GPT-2 of 2 layers"

The architectures are those of the ``transformers`` package, with random weights: nothing is downloaded. Each is searched in a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from real_models import Problem, digits, gpt2, next_bytes, resnet18, vision_transformer
from real_networks import line, peak_memory
from torch import nn

import invariant_sharpness as ish


def perceptron(*widths: int, activation: Callable[[], nn.Module] = nn.ReLU) -> Problem:
    """Dense layers, on eight digits of 32 x 32."""
    torch.manual_seed(0)
    sizes = (1024, *widths)
    hidden = [(nn.Linear(m, n), activation()) for m, n in zip(sizes, widths, strict=False)]
    model = nn.Sequential(nn.Flatten(), *(part for layer in hidden for part in layer), nn.Linear(widths[-1], 10))
    return model, digits(0, 8, channels=1)


class EveryOther(nn.Module):
    """ReLU on units of even number, tanh on the others."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(x.shape[1]) % 2 == 0, x.relu(), x.tanh())


def one_layer(units: int) -> Problem:
    """Ten inputs, and units of which every other one can be rescaled."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, units), EveryOther(), nn.Linear(units, 10))
    return model, (torch.randn(8, 10), torch.arange(8))


class Gated(nn.Module):
    """A block of SwiGLU between two dense layers, of which the first is followed by tanh."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(1024, width), nn.Linear(width, 10)
        self.gate, self.up, self.down = nn.Linear(width, units), nn.Linear(width, units), nn.Linear(units, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x.flatten(1)).tanh()
        return self.head(x + self.down(nn.functional.silu(self.gate(x)) * self.up(x)))


def gated(width: int, units: int) -> Problem:
    """On eight digits of 32 x 32."""
    torch.manual_seed(0)
    return Gated(width, units), digits(0, 8, channels=1)


@dataclass(frozen=True)
class Network:
    """A row of the table: a network, and the number of its symmetries as it follows from its layers."""

    build: Callable[[], Problem]
    expected: str
    options: Mapping[str, Any] = field(default_factory=dict)


NETWORKS = {
    "perceptron 1024-300-100-10": Network(lambda: perceptron(300, 100), "300 + 100 = 400"),
    "the same with GELU": Network(lambda: perceptron(300, 100, activation=nn.GELU), "0"),
    "perceptron 1024-1009-1009-10": Network(lambda: perceptron(1009, 1009), "1009 + 1009 = 2018"),
    "3950 units, every other one of ReLU": Network(lambda: one_layer(3950), "1975"),
    "SwiGLU of 256 units": Network(lambda: gated(64, 256), "256"),
    "ResNet-18": Network(resnet18, "(2 + 1) (64 + 128 + 256 + 512) = 2880"),
    "GPT-2 of 2 layers": Network(lambda: gpt2(2, 64), "2 · 4 · 64 = 512", {"forward": next_bytes}),
    "GPT-2 of 4 layers": Network(lambda: gpt2(4, 128), "4 · 4 · 128 = 2048", {"forward": next_bytes}),
    "the same with a head of its own": Network(
        lambda: gpt2(4, 128, tied=False), "4 · 4 · 128 + 128 = 2176", {"forward": next_bytes}
    ),
    "ViT of 4 layers": Network(lambda: vision_transformer(4, 192, 3, 4), "4 · 4 · 192 + 192 + 1 = 3265"),
    "ViT of 12 layers": Network(vision_transformer, "12 · 4 · 192 + 192 + 1 = 9409"),
}

COLUMNS = (
    "network",
    "parameters",
    "rows and columns",
    "by hand",
    "found",
    "refused",
    "idle",
    "groups of",
    "gap",
    "seconds",
    "gradients",
    "peak memory, MB",
)


def row(name: str) -> list[str]:
    """Search in this process, whose peak is the memory of the row. Time is also given in gradients of all data, of which one takes as long as the median of five."""
    network = NETWORKS[name]
    oracle = ish.oracle(*network.build(), **network.options)
    elapsed, found = timed(lambda: ish.find_symmetries(oracle))
    memory = peak_memory()
    gradient = statistics.median(timed(lambda: oracle.gradient(oracle.parameters))[0] for _ in range(5))
    return [
        *(name, f"{sum(group.size for group in oracle.groups):,}", f"{len(found.variables):,}", network.expected),
        *(str(n) for n in (len(found), found.refused, found.idle, found.block_width)),
        *(f"{found.gap:.0e}", f"{elapsed:.0f}", f"{elapsed / gradient:,.0f}", f"{memory:,.0f}"),
    ]


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call takes, and what it returns."""
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def in_own_process(name: str) -> str:
    """The row, as a line of Markdown."""
    command = [sys.executable, __file__, name, "--here"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NETWORKS), help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(line(row(arguments.names[0])))
        return
    print(line(COLUMNS), line(["---"] * len(COLUMNS)), sep="\n")
    for name in arguments.names:
        print(in_own_process(name), flush=True)


if __name__ == "__main__":
    main()
