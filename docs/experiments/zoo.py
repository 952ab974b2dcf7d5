"""A zoo of trained networks, measured: one line of a ledger for each, for ``ish.rank``.

    python docs/experiments/zoo.py --grid kept --data DIR --ledger kept.jsonl
    python docs/experiments/zoo.py --grid digits --ledger digits.jsonl

Each network is trained until its training loss is small, measured, and written at once. A run that is killed goes on where it stopped and ends
with the same lines; how long each network took stands in ``LEDGER.seconds``. A GPU is used where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
from zoo_data import Images, images  # noqa: E402
from zoo_grid import GRIDS, Setting, settings  # noqa: E402
from zoo_measures import measures  # noqa: E402
from zoo_network import SMALL_LOSS, Trained  # noqa: E402
from zoo_torch import train  # noqa: E402

Line = dict[str, Any]


def network_line(setting: Setting, folder: Path | None) -> Line:
    """Train and measure one network."""
    found = images(setting, folder)
    trained = train(setting, found)
    if not np.isfinite(trained.loss):
        return setting.to_dict() | {"epochs": trained.epochs, "diverged": True}
    return setting.to_dict() | generalization(trained, found) | measures(trained, found.x, found.y)


def generalization(trained: Trained, found: Images) -> Line:
    """Errors on training and test data, and their difference, the gap."""
    training, test = (
        float((trained.outputs(x).argmax(axis=1) != y).mean())
        for x, y in ((found.x, found.y), (found.x_test, found.y_test))
    )
    return {
        "epochs": trained.epochs,
        "training_loss": trained.loss,
        "converged": trained.loss <= SMALL_LOSS,
        "diverged": False,
        "training_error": training,
        "test_error": test,
        "gap": test - training,
    }


def whole_lines(ledger: Path) -> list[Line]:
    """The lines of a ledger; one that was torn by a kill is cut off the file."""
    if not ledger.exists():
        return []
    text = ledger.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        os.truncate(ledger, len(whole))
    return [json.loads(line) for line in whole.splitlines()]


def append(file: Path, line: Line) -> None:
    """Write one line and have it on the disk before going on."""
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(line) + "\n")
        opened.flush()
        os.fsync(opened.fileno())


def run(grid: str, folder: Path | None, ledger: Path) -> None:
    """Train and measure what the ledger lacks, in the order of the grid."""
    wanted = settings(grid)
    names = list(wanted[0].to_dict())
    done = {tuple(line[name] for name in names) for line in whole_lines(ledger)}
    missing = [setting for setting in wanted if tuple(setting.to_dict().values()) not in done]
    for number, setting in enumerate(missing, start=1):
        started = time.perf_counter()
        append(ledger, network_line(setting, folder))
        seconds = time.perf_counter() - started
        append(ledger.with_suffix(ledger.suffix + ".seconds"), {"seconds": round(seconds, 2)})
        print(
            f"{number} of {len(missing)}: {seconds:.1f} s, {seconds * (len(missing) - number) / 3600:.2f} h to go",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", choices=GRIDS, default="digits")
    parser.add_argument("--data", type=Path, help="the folder with mnist.npz, fashion_mnist.npz and cifar10_small.npz")
    parser.add_argument("--ledger", type=Path, required=True, help="the file of lines, which is appended to")
    asked = parser.parse_args()
    run(asked.grid, asked.data, asked.ledger)


if __name__ == "__main__":
    main()
