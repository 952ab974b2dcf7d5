"""What a vector of random signs costs: drawn by NumPy and copied, and drawn by array operations where the parameters are.

Run ``python docs/experiments/probes.py`` for the device that there is, or with ``--device cpu``. The bits are the same, which is checked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter
from typing import Any

import array_api_compat.torch
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from invariant_sharpness import philox, prng

SIZES = (10**4, 10**6, 10**7, 10**8)
REPEATS = 5


def drawn_on_host(size: int, device: str) -> torch.Tensor:
    """The way of a parameter on the CPU: bits of NumPy's generator in float64, then in the parameter's type."""
    bits = np.unpackbits(prng.random_bits(0, 0, 0, -(-size // 64)).view(np.uint8), count=size, bitorder="little")
    return torch.as_tensor(2 * bits.astype(np.float64) - 1).to(device, torch.float32)


def drawn_there(size: int, device: str) -> torch.Tensor:
    """The way of a parameter on an accelerator."""
    values: torch.Tensor = philox.signs(array_api_compat.torch, 0, [0], 0, [size], device)[0]
    return values.to(torch.float32)


def seconds(draw: Callable[[int, str], torch.Tensor], size: int, device: str) -> float:
    """The least time of some draws, once it has been done before."""
    return min(_once(draw, size, device) for _ in range(1 + REPEATS))


def _once(draw: Callable[[int, str], torch.Tensor], size: int, device: str) -> float:
    start = perf_counter()
    draw(size, device)[-1].item()
    return perf_counter() - start


def table(device: str, sizes: tuple[int, ...] = SIZES) -> Table:
    """Milliseconds of both ways, and how many times the first takes as long as the second."""
    found = Table("signs", "host, ms", "in place, ms", "ratio")
    for size in sizes:
        same = torch.equal(drawn_on_host(size, device), drawn_there(size, device))
        assert same, f"{size} signs drawn on {device} differ from the host's"
        host, there = (seconds(draw, size, device) for draw in (drawn_on_host, drawn_there))
        found.add_row(f"{size:,}", f"{1000 * host:.2f}", f"{1000 * there:.2f}", f"{host / there:.2f}")
    return found


def main() -> Any:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    device = parser.parse_args().device
    name = torch.cuda.get_device_name() if device.startswith("cuda") else device
    Console().print(f"random signs on {name}", table(device))


if __name__ == "__main__":
    main()
