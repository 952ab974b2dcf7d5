"""How cost and memory grow with the number of examples and with the number of probes, in PyTorch.

    python docs/experiments/scaling.py --picture docs/_static/scaling.png

Every measurement has a process of its own, whose peak memory counts. Its data are made batch by batch, so that they take none.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import works
from rich.console import Console
from rich.table import Table

import invariant_sharpness as ish

EXAMPLES = (1, 2, 4, 8, 16)
PROBES = (16, 32, 64, 128, 256)

Measured = dict[int, tuple[float, float]]
"""Seconds and megabytes."""


class RandomBatches:
    """The same batches on every pass, made when they are asked for."""

    def __init__(self, work: str, multiple: int) -> None:
        self._work = work
        self._multiple = multiple

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return works.batches(self._work, self._multiple)


def sharpness(work: str, multiple: int) -> Callable[[], object]:
    """Normalized sharpness on so many times the data."""
    oracle = ish.oracle(works.torch_network(work), RandomBatches(work, multiple))
    return lambda: ish.normalized_sharpness(oracle)


def trace(work: str, probes: int) -> Callable[[], object]:
    """The trace from so many probes."""
    oracle = ish.oracle(works.torch_network(work), works.torch_batches(work))
    return lambda: ish.hutchinson_trace(oracle, num_matvecs=probes)


SWEEPS = {"examples": (sharpness, EXAMPLES), "probes": (trace, PROBES)}


def measure(sweep: str, work: str, count: int) -> tuple[float, float]:
    """Seconds of the second run, and the peak memory of this process."""
    run = SWEEPS[sweep][0](work, count)
    run()
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return seconds, peak / (1e6 if sys.platform == "darwin" else 1e3)


def in_a_process(sweep: str, work: str, count: int) -> tuple[float, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--in-process", sweep, work, str(count)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, memory = json.loads(run.stdout)
    return seconds, memory


def number(sweep: str, work: str, count: int) -> int:
    """What stands on the axis."""
    return count * works.EXAMPLES[work] if sweep == "examples" else count


def draw(found: dict[str, dict[str, Measured]], path: Path) -> None:
    """Cost above, memory below."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
    for (cost, memory), (sweep, rows) in zip(axes.T, found.items(), strict=True):
        for work, row in rows.items():
            counts = [number(sweep, work, count) for count in row]
            cost.loglog(
                counts, [seconds / next(iter(row.values()))[0] for seconds, _ in row.values()], "o-", label=work
            )
            memory.semilogx(counts, [megabytes for _, megabytes in row.values()], "o-", label=f"work {work}")
        marks = sorted({number(sweep, work, count) for work, row in rows.items() for count in row})
        for axis in (cost, memory):
            axis.set_xticks(marks, [f"{mark:,}" for mark in marks])
            axis.minorticks_off()
        cost.set(ylabel="time over that of the first")
        memory.set(xlabel=sweep, ylabel="peak memory, in MB", ylim=(0, None))
        memory.legend()
    for axis, title in zip(axes[0], ("normalized_sharpness", "hutchinson_trace"), strict=True):
        axis.set_title(title)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the table, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="where to draw")
    parser.add_argument("--in-process", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_process:
        sweep, work, count = arguments.in_process
        print(json.dumps(measure(sweep, work, int(count))))
        return
    table = Table("work", "what grows", "number", "time over that of the first", "peak memory, in MB")
    found: dict[str, dict[str, Measured]] = {}
    for sweep, (_, counts) in SWEEPS.items():
        found[sweep] = {work: {c: in_a_process(sweep, work, c) for c in counts} for work in works.SHAPES}
        for work, row in found[sweep].items():
            first, _ = next(iter(row.values()))
            for count, (seconds, memory) in row.items():
                cells = f"{number(sweep, work, count):,}", f"{seconds / first:.1f}", f"{memory:.0f}"
                table.add_row(work, sweep, *cells)
    Console(width=100).print(table)
    if arguments.picture:
        draw(found, arguments.picture)


if __name__ == "__main__":
    main()
