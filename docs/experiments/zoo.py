"""A zoo of trained networks, measured: one line of a ledger for each, for ``ish.rank``.

    python docs/experiments/zoo.py --grid kept --data DIR --ledger kept.jsonl
    python docs/experiments/zoo.py --grid digits --ledger digits.jsonl
    python docs/experiments/zoo.py --grid digits --framework jax --ledger digits_jax.jsonl

Each network is trained until its training loss is small, measured, and written at once. A run that is killed goes on where it stopped and ends
with the same lines; how long each network took stands in ``LEDGER.seconds``. A GPU is used where there is one.
A network of the grid ``kept`` takes about 8 seconds of one core on PyTorch, and all 320 take 0.7 hours; on JAX they take 39 seconds and 3.5 hours,
most of them for compilation. ``python docs/experiments/zoo_seconds.py GRID`` measures it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
from zoo_data import images  # noqa: E402
from zoo_grid import GRIDS, Setting, settings  # noqa: E402
from zoo_ledger import Line, run, whole_lines  # noqa: E402
from zoo_measures import generalization, measures  # noqa: E402

FRAMEWORKS = {"torch": "zoo_torch", "jax": "zoo_jax"}
"""The module that trains the networks, which alone imports the framework."""

COLUMNS: Mapping[str, Line] = {"torch": {}, "jax": {"framework": "jax"}}
"""What a line says of its framework: one without the column is PyTorch's."""


def network_line(setting: Setting, framework: str, folder: Path | None) -> Line:
    """Train and measure one network."""
    line, found = setting.to_dict() | COLUMNS[framework], images(setting, folder)
    trained = import_module(FRAMEWORKS[framework]).train(setting, found)
    if not np.isfinite(trained.loss):
        return line | {"epochs": trained.epochs, "diverged": True}
    return line | generalization(trained, found) | measures(trained, found.x, found.y)


def refuse_another_framework(ledger: Path, framework: str) -> None:
    """Stop where a ledger has lines of another framework, which this one would not train anew."""
    others = {line.get("framework", "torch") for line in whole_lines(ledger)} - {framework}
    if others:
        sys.exit(f"{ledger} has lines of {', '.join(others)}: give --ledger another file, one for each framework")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", choices=GRIDS, default="digits")
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--data", type=Path, help="the folder with mnist.npz, fashion_mnist.npz and cifar10_small.npz")
    parser.add_argument("--ledger", type=Path, required=True, help="the file of lines, which is appended to")
    asked = parser.parse_args()
    refuse_another_framework(asked.ledger, asked.framework)
    line_of = partial(network_line, framework=asked.framework, folder=asked.data)
    run(settings(asked.grid), line_of, asked.ledger)


if __name__ == "__main__":
    main()
