"""What the certificate says, and the diagonal that it stands for."""

from __future__ import annotations

import keras
import numpy as np
from keras_problems import convolutional_oracle, inputs, labels, perceptron, perceptron_oracle

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError
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


def rare_branch() -> dict[str, str]:
    """How each variable is judged in a model with a smooth branch that the last of 300 examples takes."""
    x = np.sort(np.random.default_rng(0).normal(size=(300, 5)), axis=0)
    y = np.random.default_rng(1).integers(0, 3, 300)
    given = keras.Input((5,))
    rare = keras.ops.cast(given[:, :1] > float(x[299, 0]) - 1e-6, "float32")
    branches = [keras.layers.Dense(4, kind, name=kind, dtype="float32")(given) for kind in ("relu", "gelu")]
    joined = branches[0] * (1 - rare) + branches[1] * rare
    model = keras.Model(given, keras.layers.Dense(3, name="last", dtype="float32")(joined))
    oracle = backend.oracle(model, (x.astype(np.float32), y), loss="cross_entropy")
    return {name: group.method for name, group in ish.hessian_diagonal(oracle, probes=4).groups.items()}


def quantized() -> str:
    """What the error says of a model whose kernels are integers."""
    model = perceptron()
    model.quantize("int8")
    try:
        return str(backend.oracle(model, (inputs(), labels()), loss="cross_entropy"))
    except ModelError as error:
        return str(error)


CHECKS = [verdicts, diagonal_of_the_convolutional_network, rare_branch, quantized]
