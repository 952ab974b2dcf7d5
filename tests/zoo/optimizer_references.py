"""Optimizers written out in NumPy, by the formulas of their papers, and what they come to on a ReLU network."""

from __future__ import annotations

from typing import Any

import numpy as np

import invariant_sharpness as ish
from invariant_sharpness_numpy import NetworkOracle

STEPS, RATE, EPSILON = 4, 2.0**-7, 2.0**-20
BETA1, BETA2, DECAY, MOMENTUM = 0.75, 0.9375, 0.875, 0.5
"""Exact in single precision, in which Keras holds them."""

THRESHOLDS = {
    "adam": (2 + 2 * BETA1) / ((1 - BETA1) * RATE),
    "rmsprop": (2 + 2 * MOMENTUM) / RATE,
    "sgd": (2 + 2 * MOMENTUM) / ((1 + 2 * MOMENTUM) * RATE),
}
"""Of Adam, RMSprop with heavy-ball momentum, and gradient descent with Nesterov's."""


def trained(oracle: NetworkOracle, kind: str, *, keras: bool) -> tuple[Any, Any]:
    """Parameters and preconditioner after some steps, as dictionaries of arrays.

    Keras adds epsilon to the root before its bias is corrected (Adam), or in it (RMSprop).
    """
    theta = {name: array.copy() for name, array in oracle.to_numpy(oracle.parameters).items()}
    first = {name: np.zeros_like(array) for name, array in theta.items()}
    second = {name: np.zeros_like(array) for name, array in theta.items()}
    P = {name: np.ones_like(array) for name, array in theta.items()}
    for t in range(1, STEPS + 1):
        gradient = oracle.to_numpy(oracle.gradient(oracle.from_numpy(theta)))
        for name, g in gradient.items():
            if kind == "adam":
                first[name] = BETA1 * first[name] + (1 - BETA1) * g
                second[name] = BETA2 * second[name] + (1 - BETA2) * g * g
                corrected = 1 - BETA2**t
                epsilon = EPSILON / np.sqrt(corrected) if keras else EPSILON
                P[name] = (1 - BETA1**t) * (np.sqrt(second[name] / corrected) + epsilon)
                theta[name] = theta[name] - RATE * first[name] / P[name]
            elif kind == "rmsprop":
                second[name] = DECAY * second[name] + (1 - DECAY) * g * g
                P[name] = np.sqrt(second[name] + EPSILON) if keras else np.sqrt(second[name]) + EPSILON
                first[name] = MOMENTUM * first[name] + g / P[name]
                theta[name] = theta[name] - RATE * first[name]
            else:
                first[name] = MOMENTUM * first[name] + g
                theta[name] = theta[name] - RATE * (g + MOMENTUM * first[name])
    return theta, P


def reference_value(oracle: NetworkOracle, kind: str, *, keras: bool = False) -> float:
    """The largest eigenvalue of the preconditioned Hessian there, from its dense columns."""
    theta, P = trained(oracle, kind, keras=keras)
    point = oracle.from_numpy(theta)
    units = np.eye(sum(group.size for group in oracle.groups))
    columns = [flat(oracle, oracle.hessian_vector_product(point, unflat(oracle, unit))) for unit in units]
    root = np.concatenate([P[group.name].ravel() for group in oracle.groups]) ** -0.5
    return float(np.linalg.eigvalsh(root[:, None] * np.stack(columns, axis=1) * root)[-1])


def flat(oracle: Any, vector: ish.ParameterVector) -> Any:
    arrays = oracle.to_numpy(vector)
    return np.concatenate([arrays[group.name].ravel() for group in oracle.groups])


def unflat(oracle: Any, values: Any) -> ish.ParameterVector:
    ends = np.cumsum([group.size for group in oracle.groups])[:-1]
    parts = zip(oracle.groups, np.split(values, ends), strict=True)
    return oracle.from_numpy({group.name: part.reshape(group.shape) for group, part in parts})
