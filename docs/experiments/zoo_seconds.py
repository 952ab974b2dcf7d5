"""How long the grids of the zoo take: some networks of each, drawn at random, trained and measured.

    python docs/experiments/zoo_seconds.py kept --framework jax --networks 4 --data DIR

Seconds are those of the processor, so that other programs on the machine do not count. JAX compiles what it has not compiled before, which takes most
of its time; with ``JAX_COMPILATION_CACHE_DIR`` in the environment, it does so once for networks without norms that differ in the seed alone.
On one core of a busy machine, without that folder:

    digits       torch   4 networks drawn:  7 s each, 0.02 h for   8;   jax  2 drawn: 34 s each, 0.08 h
    kept         torch 185 networks run:    8 s each, 0.7 h  for 320;   jax  1 drawn: 39 s,      3.5 h
    optimizers   torch   1 network drawn:   6 s,      0.2 h  for 160
"""

from __future__ import annotations

import argparse
import random
import time
from importlib import import_module
from pathlib import Path
from statistics import mean

from zoo_grid import GRIDS, settings

from zoo import FRAMEWORKS, network_line


def seconds_of_networks(grid: str, framework: str, networks: int, folder: Path | None) -> list[float]:
    """Processor seconds of each of some networks of a grid; their settings are printed on the way."""
    import_module(FRAMEWORKS[framework])  # its time is no network's
    seconds = []
    for setting in random.Random(0).sample(settings(grid), networks):
        started = time.process_time()
        line = network_line(setting, framework, folder)
        seconds.append(time.process_time() - started)
        print(f"{seconds[-1]:6.1f} s, {line['epochs']:3} epochs, {setting}", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", choices=GRIDS)
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--networks", type=int, default=4, help="how many are drawn")
    parser.add_argument("--data", type=Path, help="the folder of zoo.py")
    asked = parser.parse_args()
    seconds = seconds_of_networks(asked.grid, asked.framework, asked.networks, asked.data)
    count, hours = len(settings(asked.grid)), len(settings(asked.grid)) * mean(seconds) / 3600
    print(f"{asked.grid} on {asked.framework}: {mean(seconds):.0f} s a network, {count} networks, {hours:.1f} h")


if __name__ == "__main__":
    main()
