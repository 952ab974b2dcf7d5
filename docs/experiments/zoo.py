"""A zoo of trained networks, measured: one line of a ledger for each, for ``ish.rank``.

    python docs/experiments/zoo.py --grid kept --data DIR --ledger kept.jsonl
    python docs/experiments/zoo.py --grid digits --ledger digits.jsonl

Each network is trained until its training loss is small, measured, and written at once. A run that is killed goes on where it stopped and ends
with the same lines; how long each network took stands in ``LEDGER.seconds``. A GPU is used where there is one.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
from zoo_data import images  # noqa: E402
from zoo_grid import GRIDS, Setting, settings  # noqa: E402
from zoo_ledger import Line, run  # noqa: E402
from zoo_measures import generalization, measures  # noqa: E402
from zoo_torch import train  # noqa: E402


def network_line(setting: Setting, folder: Path | None) -> Line:
    """Train and measure one network."""
    found = images(setting, folder)
    trained = train(setting, found)
    if not np.isfinite(trained.loss):
        return setting.to_dict() | {"epochs": trained.epochs, "diverged": True}
    return setting.to_dict() | generalization(trained, found) | measures(trained, found.x, found.y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", choices=GRIDS, default="digits")
    parser.add_argument("--data", type=Path, help="the folder with mnist.npz, fashion_mnist.npz and cifar10_small.npz")
    parser.add_argument("--ledger", type=Path, required=True, help="the file of lines, which is appended to")
    asked = parser.parse_args()
    run(settings(asked.grid), partial(network_line, folder=asked.data), asked.ledger)


if __name__ == "__main__":
    main()
