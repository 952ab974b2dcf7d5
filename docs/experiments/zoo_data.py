"""The images of the zoo: digits of scikit-learn, and the data sets of a folder."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from zoo_grid import Setting

TRAINING_EXAMPLES = 1_000
CLASSES = 10


class Images(NamedTuple):
    """Training and test images ``(n, channels, height, width)``, of zero mean and unit variance, and their labels."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int64]


def images(setting: Setting, folder: Path | None, examples: int = TRAINING_EXAMPLES) -> Images:
    """The images of a setting: the same for all seeds, but for the labels that are drawn anew."""
    x, y, x_test, y_test = _digits() if setting.data == "digits" else _from_folder(setting.data, folder)
    chosen = np.random.default_rng(0).permutation(len(y))[:examples]
    x, y = x[chosen], _partly_random(y[chosen], setting)
    mean, deviation = x.mean(), x.std()
    return Images((x - mean) / deviation, y, (x_test - mean) / deviation, y_test)


def _partly_random(labels: npt.NDArray[np.int64], setting: Setting) -> npt.NDArray[np.int64]:
    generator = np.random.default_rng([setting.seed, 1])
    is_drawn = generator.random(len(labels)) < setting.random_labels
    return np.where(is_drawn, generator.integers(0, CLASSES, len(labels)), labels)


def _digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    found = load_digits()
    x, y = found.images[:, None].astype(np.float32), found.target.astype(np.int64)
    order = np.random.default_rng(1).permutation(len(y))
    training, test = order[:TRAINING_EXAMPLES], order[TRAINING_EXAMPLES:]
    return x[training], y[training], x[test], y[test]


@cache
def _from_folder(
    name: str, folder: Path | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    file = (folder or Path()) / f"{name}.npz"
    if not file.is_file():
        sys.exit(
            f"{file} is not there: give the folder that holds it with --data DIR, or take --grid digits, which needs no file"
        )
    with np.load(file) as arrays:
        x, y, x_test, y_test = (arrays[key] for key in ("x_train", "y_train", "x_test", "y_test"))
    shaped = [a[:, None] if a.ndim == 3 else a for a in (x, x_test)]
    x, x_test = (a.astype(np.float32) / 255 for a in shaped)
    return x, y.astype(np.int64).reshape(-1), x_test, y_test.astype(np.int64).reshape(-1)
