"""The grids of the zoo: what a network is trained on and how, in every combination of some values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Any


@dataclass(frozen=True)
class Setting:
    """One network of the zoo.

    Parameters
    ----------
    data
        ``digits``, ``mnist``, ``fashion_mnist``, ``cifar10_small`` or ``cifar10``.
    architecture
        ``mlp``, ``lenet``, ``resnet`` or ``wide_resnet``.
    width
        Hidden units, or channels of the first convolution; in a Wide ResNet those of its first group.
    depth
        Hidden layers, or residual blocks, in a Wide ResNet those of each of three groups; a LeNet has always two convolutions, and ``depth`` dense layers of ``16 width`` units after them.
    learning_rate, batch_size, weight_decay, optimizer
        Of the training; ``sgd`` has a momentum of 0.9, ``adam`` its usual numbers.
    random_labels
        Share of the training labels that are drawn anew.
    norm
        Whether there is batch normalization before each ReLU.
    seed
        Of the initial weights, the order of the data and the random labels.
    """

    data: str = "fashion_mnist"
    architecture: str = "mlp"
    width: int = 64
    depth: int = 2
    learning_rate: float = 0.1
    batch_size: int = 32
    weight_decay: float = 0.0
    random_labels: float = 0.0
    optimizer: str = "sgd"
    norm: bool = False
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


HYPERPARAMETERS = tuple(field.name for field in fields(Setting) if field.name not in ("data", "seed"))

RANDOM_LABELS: Mapping[str, Sequence[Any]] = {
    "learning_rate": (1e-3,),
    "batch_size": (128,),
    "optimizer": ("adam",),
    "norm": (False, True),
    "random_labels": tuple(tenths / 10 for tenths in range(11)),
    "seed": range(3),
}
"""What Tsuzuku et al. vary and keep (appendix E), and norm layers or none."""

LENET: Mapping[str, Sequence[Any]] = {"architecture": ("lenet",), "width": (6,), "depth": (2,)}

GRIDS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    # Kept in the repository: 64 configurations of five repeats.
    "kept": {
        "width": (32, 128),
        "depth": (1, 3),
        "learning_rate": (0.005, 0.02),
        "batch_size": (16, 128),
        "norm": (False, True),
        "random_labels": (0.0, 0.2),
        "seed": range(5),
    },
    "optimizers": {
        "width": (32, 128),
        "depth": (1, 3),
        "learning_rate": (1e-3, 5e-3),
        "batch_size": (16, 128),
        "optimizer": ("adam",),
        "norm": (False, True),
        "seed": range(5),
    },
    "convolutions": {
        "architecture": ("lenet", "resnet"),
        "data": ("cifar10_small",),
        "width": (8, 16),
        "depth": (1, 2),
        "learning_rate": (0.02, 0.1),
        "batch_size": (16, 128),
        "norm": (False, True),
        "seed": range(5),
    },
    "random_labels_mlp": {"data": ("mnist",), "width": (128,), "depth": (3,), **RANDOM_LABELS},
    "random_labels_lenet": {"data": ("mnist",), **LENET, **RANDOM_LABELS},
    "random_labels_cifar10": {"data": ("cifar10_small",), **LENET, **RANDOM_LABELS},
    "random_labels_wide_resnet": {
        "data": ("cifar10",),
        "architecture": ("wide_resnet",),
        "width": (64,),
        "depth": (2,),
        **RANDOM_LABELS,
    },
    # For trying out: seconds.
    "digits": {"data": ("digits",), "width": (16, 32), "learning_rate": (0.05, 0.2), "seed": range(2)},
}


def settings(grid: str) -> list[Setting]:
    """All networks of a grid, the seed varying slowest: a run that is stopped has whole grids of fewer repeats."""
    values = dict(GRIDS[grid])
    names = ["seed", *(name for name in values if name != "seed")]
    return [Setting(**dict(zip(names, chosen, strict=True))) for chosen in product(*(values[name] for name in names))]
