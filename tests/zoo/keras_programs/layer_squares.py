"""The exact Gauss-Newton diagonal of many layers, against that of the dense Jacobian."""

from __future__ import annotations

import importlib
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import MagicMock, patch

import keras
import numpy as np
from dense_jacobian import outputs_and_jacobian
from keras import layers
from keras_problems import labels
from layer_networks import OTHERS, WITH_RULES, images

from invariant_sharpness import memory_limit
from invariant_sharpness_keras import backend
from invariant_sharpness_keras.oracle import KerasOracle

EXAMPLES = 4
NO_EFFECT = 1e-6
NETWORKS = WITH_RULES | OTHERS


def diagonals_of_layers() -> dict[str, dict[str, float]]:
    """For each network and variable, the error of the diagonal relative to the largest entry of the variable's."""
    return {name: relative_errors(oracle_of(name)) for name in NETWORKS}


def diagonal_in_single_precision() -> dict[str, float]:
    with single_precision():
        network = images()
        data = (examples_of(network).astype("float32"), labels(EXAMPLES))
        return relative_errors(backend.oracle(network, data, loss="cross_entropy"))


def passes_of_single_examples() -> dict[str, int]:
    """How often a diagonal has recourse to one example at a time."""
    return {name: _passes(name) for name in NETWORKS}


def diagonal_in_little_memory() -> float:
    """The relative difference that a memory limit makes which leaves one example and one term at a time."""
    oracle = oracle_of("tokens")
    with memory_limit(1):
        pieces = flat(diagonal(oracle))
    whole = flat(diagonal(oracle))
    return float(np.abs(pieces - whole).max() / np.abs(whole).max())


def layers_after_an_interruption() -> dict[str, bool]:
    """Whether a layer has the attributes that it had when a pass was cut off in which it is watched."""
    hidden = layers.Dense(4, activation="relu")
    network = keras.Sequential([keras.Input((5,)), hidden, layers.Dense(3, activation=_Interruption(hidden))])
    oracle = backend.oracle(network, (np.ones((EXAMPLES, 5)), labels(EXAMPLES)), loss="cross_entropy")
    before = dict(vars(hidden))
    try:
        diagonal(oracle)
    except KeyboardInterrupt:
        return {"interrupted": True, "same": vars(hidden) == before}
    return {"interrupted": False}


class _Interruption:
    """An activation that is interrupted while the layer before it is watched."""

    def __init__(self, layer: keras.Layer) -> None:
        self._layer = layer

    def __call__(self, outputs: Any) -> Any:
        if "call" in vars(self._layer):
            raise KeyboardInterrupt
        return outputs


@cache
def oracle_of(name: str) -> KerasOracle:
    return new_oracle(name)


def new_oracle(name: str) -> KerasOracle:
    network = NETWORKS[name]()
    return backend.oracle(network, (examples_of(network), labels(EXAMPLES)), loss="cross_entropy")


def examples_of(network: keras.Model) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(4)
    (entry,) = getattr(network, "inputs", None) or [keras.KerasTensor((None, 5))]
    shape = (EXAMPLES, *entry.shape[1:])
    return random.integers(0, 3, shape) if entry.dtype == "int32" else random.normal(size=shape)


def relative_errors(oracle: KerasOracle) -> dict[str, float]:
    x = examples_of(oracle.model)
    z, jacobian = outputs_and_jacobian(oracle.model, x if x.dtype.kind == "i" else x.astype(keras.config.floatx()))
    found = oracle.to_numpy(diagonal(oracle))
    expected = [gauss_newton_diagonal(z, part) for part in jacobian]
    largest = max(float(part.max()) for part in expected)
    return {
        group.name: _error(found[group.name], part, largest)
        for group, part in zip(oracle.groups, expected, strict=True)
    }


def diagonal(oracle: KerasOracle) -> Any:
    return oracle.gauss_newton_diagonal(oracle.parameters, frozenset(group.name for group in oracle.groups))


def flat(vector: Any) -> np.ndarray[Any, Any]:
    return np.concatenate([np.asarray(array, dtype=np.float64).ravel() for array in vector.arrays.values()])


def gauss_newton_diagonal(z: np.ndarray[Any, Any], jacobian: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The diagonal of the mean of ``J^T (diag(p) - p p^T) J``."""
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    mean = np.einsum("nk,nk...->n...", p, jacobian)
    return (np.einsum("nk,nk...->n...", p, jacobian**2) - mean**2).mean(axis=0)


def _error(value: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], largest: float) -> float:
    """Relative; of a variable without any effect, as the bias of keys in attention, the square of rounding is left."""
    return float(np.abs(value - expected).max() / max(float(expected.max()), NO_EFFECT * largest))


def _passes(name: str) -> int:
    """The first diagonal tests the rules on a few examples; on JAX, where nothing is tested, it is the one that is traced."""
    oracle = new_oracle(name) if keras.backend.backend() == "jax" else oracle_of(name)
    if keras.backend.backend() != "jax":
        diagonal(oracle)
    with patch.object(*_general_path(oracle)) as general:
        diagonal(oracle)
    return int(general.call_count)


def _general_path(oracle: KerasOracle) -> tuple[Any, str, Any]:
    """What squares one example at a time: its owner, its name, and a spy that calls it."""
    if keras.backend.backend() == "tensorflow":
        owner, name = oracle.engine.graphs, "squares_one_by_one"
    elif keras.backend.backend() == "torch":
        owner, name = importlib.import_module("invariant_sharpness_torch.squares"), "_add_one_by_one"
    else:
        owner, name = importlib.import_module("invariant_sharpness_jax.example_squares"), "_one_by_one"
    return owner, name, MagicMock(side_effect=getattr(owner, name))


@contextmanager
def single_precision() -> Generator[None]:
    floats, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_floatx(floats)
        keras.config.set_dtype_policy(policy)


CHECKS = [
    diagonals_of_layers,
    passes_of_single_examples,
    diagonal_in_little_memory,
    layers_after_an_interruption,
]
