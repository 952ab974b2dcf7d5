"""Figures 3 and 4 of Tsuzuku et al., with the loss and the normalization changed one at a time: a ledger of networks trained on random labels.

    python docs/experiments/reproduction.py --grid random_labels_mlp --data DIR --ledger random_labels.jsonl
    python docs/experiments/reproduction.py --grid random_labels_lenet --data DIR --ledger random_labels.jsonl
    python docs/experiments/reproduction.py --grid random_labels_cifar10 --data DIR --ledger random_labels.jsonl
    python docs/experiments/reproduction.py --grid random_labels_mlp --epochs 50 --data DIR --ledger random_labels_epochs.jsonl

``DIR`` holds mnist.npz and cifar10_small.npz. A run that is killed goes on where it stopped. ``docs/reproduction.md`` reads the ledgers.
The paper trains on all images, for 50 to 200 epochs; its largest network, which takes a GPU and a file cifar10.npz, is

    python docs/experiments/reproduction.py --grid random_labels_wide_resnet --examples 50000 --epochs 200 --data DIR --ledger wide.jsonl
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from zoo_data import TRAINING_EXAMPLES, images
from zoo_grid import GRIDS, Setting, settings
from zoo_ledger import Line, run
from zoo_measures import COMPARED, generalization, of_normalized_loss
from zoo_network import MOST_EPOCHS, SMALL_LOSS
from zoo_torch import train

import invariant_sharpness as ish


def network_line(setting: Setting, folder: Path | None, examples: int, epochs: int | None) -> Line:
    """Train one network to a small loss, or for so many epochs, and measure trace and normalized sharpness of both losses."""
    found = images(setting, folder, examples)
    small_loss, most_epochs = (SMALL_LOSS, MOST_EPOCHS) if epochs is None else (0.0, epochs)
    trained = train(setting, found, small_loss=small_loss, most_epochs=most_epochs)
    if not np.isfinite(trained.loss):
        return setting.to_dict() | {"epochs": trained.epochs, "diverged": True}
    report = ish.measure(trained.oracle("cross_entropy"), list(COMPARED))
    of_loss = {name: estimate.value for name, estimate in report.items()}
    return setting.to_dict() | generalization(trained, found) | of_loss | of_normalized_loss(trained)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", choices=[name for name in GRIDS if name.startswith("random_labels")], required=True)
    parser.add_argument("--examples", type=int, default=TRAINING_EXAMPLES, help="training images")
    parser.add_argument("--epochs", type=int, help="of every training; by default it stops at a small loss")
    parser.add_argument("--data", type=Path, help="the folder with mnist.npz and cifar10_small.npz")
    parser.add_argument("--ledger", type=Path, required=True, help="the file of lines, which is appended to")
    asked = parser.parse_args()
    line_of = partial(network_line, folder=asked.data, examples=asked.examples, epochs=asked.epochs)
    run(settings(asked.grid), line_of, asked.ledger)


if __name__ == "__main__":
    main()
