"""All that docs/cost.md says of this library's costs, measured on a GPU, in one command.

    python docs/experiments/gpu.py [--output FILE]

The tables are printed, and written with the name of the card. Without a GPU it says so, and measures nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import torch

HERE = Path(__file__).parent
MINUTES = 20


class Card(NamedTuple):
    """PyTorch's accelerator."""

    device: str
    name: str


def card() -> Card | None:
    """The accelerator that there is."""
    if torch.cuda.is_available():
        return Card("cuda", torch.cuda.get_device_name())
    if torch.xpu.is_available():
        return Card("xpu", torch.xpu.get_device_name())
    return Card("mps", "Apple GPU") if torch.backends.mps.is_available() else None


def programs(device: str) -> list[list[str]]:
    """What is run: costs of measurements, of what a plan counts with, and of random signs; and memory, which PyTorch tells of CUDA alone."""
    found = [
        ["cost.py", "torch", "--device", device],
        ["draw_costs.py", "torch", "--device", device],
        ["probes.py", "--device", device],
    ]
    return [*found, ["memory.py", "--device", device]] if device == "cuda" else found


def tables(found: Card) -> str:
    """What the programs print, under the name of the card."""
    parts = [f"{found.name}, PyTorch {torch.__version__}"]
    for name, *arguments in programs(found.device):
        command = [sys.executable, str(HERE / name), *arguments]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60 * MINUTES)
        parts += [f"$ python docs/experiments/{' '.join([name, *arguments])}", run.stdout]
    return "\n".join(parts)


def main(arguments: list[str]) -> None:
    """Measure and write, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE.parent / "_static" / "cost_on_gpu.txt")
    output = parser.parse_args(arguments).output
    found = card()
    if found is None:
        print(f"no GPU: PyTorch {torch.__version__} sees neither CUDA nor XPU nor MPS, so nothing was measured")
        return
    text = tables(found)
    output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
