"""A network that people use, MobileNetV2: what of its curvature is exact, and what has to be sampled."""

from __future__ import annotations

from functools import cache
from itertools import takewhile
from typing import Any

import keras
import numpy as np
from keras import layers

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness_keras import backend
from invariant_sharpness_keras.oracle import KerasOracle

EXAMPLES = 4
LOWEST_BLOCK, SMOOTH = "block_14", "block_15_expand_relu"


def mobile_network() -> dict[str, dict[str, str]]:
    """How the share of each variable in two metrics was obtained."""
    report = ish.measure(oracle_of(mobile_network_v2()), ["hessian_trace", "normalized_sharpness"])
    return {
        estimate.name: {name: part.method for name, part in estimate.per_group.items()}
        for estimate in (report["hessian_trace"], report["normalized_sharpness"])
    }


def mobile_network_with_a_smooth_activation() -> dict[str, Any]:
    """Layers that the certificate accepts and refuses, and the largest entries of two diagonals, with those of columns."""
    oracle = oracle_of(upper_part_with_a_smooth_activation())
    exact = exact_groups(oracle, curvature_defects(oracle))
    refused = frozenset(group.name for group in oracle.groups) - exact
    ends = frozenset({"block_15_depthwise/kernel", "predictions/kernel"})
    diagonal = oracle.gauss_newton_diagonal(oracle.parameters, ends)
    return {
        "exact": sorted({name.split("/")[0] for name in exact}),
        "refused": sorted({name.split("/")[0] for name in refused}),
        "entries": {name: entry_and_column(oracle, name, diagonal[name]) for name in sorted(ends)},
    }


def upper_part_with_a_smooth_activation() -> keras.Model:
    """The network with a SiLU instead of one ReLU6; what is further down is frozen."""

    def smooth(layer: keras.Layer) -> keras.Layer:
        return layers.Activation("silu") if layer.name == SMOOTH else layer.__class__.from_config(layer.get_config())

    model = keras.models.clone_model(mobile_network_v2(), clone_function=smooth)
    model.set_weights(mobile_network_v2().get_weights())
    for layer in takewhile(lambda layer: not layer.name.startswith(LOWEST_BLOCK), model.layers):
        layer.trainable = False
    return model


@cache
def mobile_network_v2() -> keras.Model:
    """Random weights, and moving statistics of real images."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None, alpha=0.35
    )
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    model(digits(64)[0], training=True)
    return model


def oracle_of(model: keras.Model) -> KerasOracle:
    return backend.oracle(model, digits(EXAMPLES), loss="cross_entropy")


def digits(examples: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Handwritten digits in color, four times as large."""
    from sklearn.datasets import load_digits

    images, y = load_digits(return_X_y=True)
    large = np.kron(images[:examples].reshape(-1, 8, 8) / 16, np.ones((4, 4)))
    return np.repeat(large[..., None], 3, axis=-1), y[:examples]


def entry_and_column(oracle: KerasOracle, name: str, values: np.ndarray[Any, Any]) -> list[float]:
    """The largest entry of the diagonal, and the same entry of a column of the Hessian."""
    entry = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    unit = {group.name: np.zeros(group.shape) for group in oracle.groups}
    unit[name][entry] = 1
    column = oracle.hessian_vector_product(oracle.parameters, oracle.from_numpy(unit))
    return [float(values[entry]), float(column[name][entry])]


CHECKS = [mobile_network, mobile_network_with_a_smooth_activation]
