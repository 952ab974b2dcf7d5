"""Oracles of losses of Keras, with weights of examples: loss and derivatives against the examples one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from losses_of_keras import EXAMPLES, WEIGHTS, X, cases, model

from invariant_sharpness_keras import backend


def losses_of_oracles() -> dict[str, list[float]]:
    """The loss of every oracle, and Keras' own."""
    found = {}
    for what, (loss, reference, targets, activation) in cases().items():
        network = model(activation)
        oracle = backend.oracle(network, (X, targets, WEIGHTS), loss=loss, batch_size=4)
        outputs = network(ops.convert_to_tensor(X, dtype=network.dtype))
        expected = (reference or loss)(targets, outputs, sample_weight=WEIGHTS)
        found[what] = [oracle.loss(oracle.parameters), float(ops.convert_to_numpy(expected))]
    return found


def weighted_derivatives() -> dict[str, float]:
    """Relative errors of what an oracle with weights has, against weighted sums over the examples one by one."""
    found = {}
    for what in ("sparse", "binary", "logarithm of cosh"):
        loss, _, targets, activation = cases()[what]
        network = model(activation)
        weighted = backend.oracle(network, (X, targets, WEIGHTS), loss=loss, batch_size=4)
        plain = backend.oracle(network, (X, targets), loss=loss)
        alone = [plain.subset([n]) for n in range(EXAMPLES)]
        for name, function in DERIVATIVES.items():
            powers = WEIGHTS**2 if name == "second moment" else WEIGHTS
            expected = np.tensordot(powers, np.stack([function(oracle) for oracle in alone]), axes=1) / EXAMPLES
            error = np.abs(function(weighted) - expected).max() / np.abs(expected).max()
            found[f"{name} of {what}"] = float(error)
    return found


def _flat(oracle: Any, vector: Any) -> Any:
    return np.concatenate([array.ravel() for array in oracle.to_numpy(vector).values()])


def _names(oracle: Any) -> frozenset[str]:
    return frozenset(group.name for group in oracle.groups)


DERIVATIVES = {
    "gradient": lambda o: _flat(o, o.gradient(o.parameters)),
    "product": lambda o: _flat(o, o.hessian_vector_product(o.parameters, o.parameters)),
    "Gauss-Newton product": lambda o: _flat(o, o.gauss_newton_vector_product(o.parameters, o.parameters)),
    "diagonal": lambda o: _flat(o, o.gauss_newton_diagonal(o.parameters, names=_names(o))),
    "second moment": lambda o: _flat(o, o.gradient_second_moment(o.parameters)),
}


CHECKS = [losses_of_oracles, weighted_derivatives]
