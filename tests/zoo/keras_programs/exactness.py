"""What the certificate says, and the diagonal that it stands for."""

from __future__ import annotations

import numpy as np
from keras_problems import convolutional_oracle, inputs, labels, perceptron, perceptron_oracle

import invariant_sharpness as ish
from invariant_sharpness_keras import backend


def verdicts() -> dict[str, dict[str, str]]:
    """How the certificate judges each variable."""
    smooth = backend.oracle(perceptron(activation="gelu"), (inputs(), labels()), loss="cross_entropy")
    diagonals = {
        kind: ish.hessian_diagonal(o, probes=4) for kind, o in (("relu", perceptron_oracle()), ("gelu", smooth))
    }
    return {kind: {name: part.method for name, part in found.groups.items()} for kind, found in diagonals.items()}


def diagonal_of_the_convolutional_network() -> dict[str, list[float]]:
    """The exact diagonal, and the same entries from columns of products: the worst difference and the scale."""
    oracle = convolutional_oracle()
    exact = ish.hessian_diagonal(oracle)
    found = {"exact": [part.method == "exact" for part in exact.groups.values()]}
    for name, part in exact.groups.items():
        entry = np.unravel_index(int(np.abs(part.values).argmax()), part.values.shape)
        unit = {g.name: np.zeros(g.shape) for g in oracle.groups}
        unit[name][entry] = 1
        column = oracle.hessian_vector_product(oracle.parameters, oracle.from_numpy(unit))
        found[name] = [float(part.values[entry]), float(column[name][entry])]
    return found


CHECKS = [verdicts, diagonal_of_the_convolutional_network]
