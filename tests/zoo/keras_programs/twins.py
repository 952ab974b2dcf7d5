"""Convolutional networks that are there twice, in Keras, and in PyTorch in double precision with the same weights; and the library's checks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from conformance import outcome
from keras_problems import USUAL, convolutional_oracle, inputs, labels, residual

import invariant_sharpness as ish
from invariant_sharpness_keras import backend

DEPEND_ON_LAYOUT = ("hessian_frobenius_norm", "average_adaptive_sharpness")
"""They draw random vectors; the entries of a depthwise kernel come in another order in PyTorch."""

COMPARED = [name for name in USUAL if name != "local_regret"]
"""Six images are too few for its minibatches."""


def convolutional_network_in_torch() -> dict[str, list[float]] | None:
    """Metrics on this engine, and of the PyTorch backend."""
    if find_spec("torch") is None:
        return None
    from torch_twin import convolutional_twin

    mine, names = convolutional_oracle(), [name for name in COMPARED if name not in DEPEND_ON_LAYOUT]
    return pairs(mine, convolutional_twin(mine.model), inputs(6, 8, 8, 2), names)


def residual_network_in_torch() -> dict[str, list[float]] | None:
    """Metrics on this engine, and of the PyTorch backend; all of them."""
    if find_spec("torch") is None:
        return None
    from torch_twin import residual_twin

    x = inputs(6, 6, 6, 2)
    mine = backend.oracle(residual(), (x, labels(6)), loss="cross_entropy")
    return pairs(mine, residual_twin(mine.model), x, COMPARED)


def conformance_of_the_convolutional_network() -> dict[str, list[str]]:
    """The library's own checks, by their status."""
    return outcome(convolutional_oracle())


def pairs(mine: Any, twin: Any, x: np.ndarray[Any, Any], names: list[str]) -> dict[str, list[float]]:
    images = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    here, there = ish.measure(mine, names), ish.measure(ish.oracle(twin, (images, labels(len(x)))), names)
    return {name: [here[name].value, there[name].value] for name in names}


CHECKS = [convolutional_network_in_torch, residual_network_in_torch, conformance_of_the_convolutional_network]
