"""Functions transformed by Haiku: the same function, its groups, and exact wherever a ReLU network is."""

from __future__ import annotations

from typing import Any

import haiku
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness_jax import from_haiku
from zoo.jax_networks import cross_entropy

IMAGES = np.random.default_rng(0).normal(size=(6, 4, 4, 2))
LABELS = np.random.default_rng(1).integers(0, 3, 6)


def convolutional(x: Any, is_training: bool) -> Any:
    """With statistics of the batch and dropout, while it is trained."""
    x = haiku.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)(haiku.Conv2D(4, 3)(x), is_training)
    x = haiku.Flatten()(haiku.avg_pool(jax.nn.relu(x), (2, 2, 1), (2, 2, 1), "VALID"))
    if is_training:
        x = haiku.dropout(haiku.next_rng_key(), 0.5, x)
    return haiku.Linear(3)(x)


def dense(x: Any) -> Any:
    return haiku.nets.MLP([5, 3])(haiku.Flatten()(x))


def with_state() -> tuple[Any, Any, Any]:
    transformed = haiku.transform_with_state(convolutional)
    parameters, state = transformed.init(jax.random.key(0), IMAGES, is_training=True)
    expected, _ = transformed.apply(parameters, state, None, IMAGES, is_training=False)
    return *from_haiku(transformed, parameters, state, is_training=False), expected


def without_state() -> tuple[Any, Any, Any]:
    transformed = haiku.transform(dense)
    parameters = transformed.init(jax.random.key(0), IMAGES)
    return *from_haiku(transformed, parameters), transformed.apply(parameters, None, IMAGES)


KINDS = {"with state": with_state, "without state": without_state}
WEIGHTS = {
    "with state": {"conv2_d.w": ("convolution", (3,), (2,)), "linear.w": ("matrix", (1,), (0,))},
    "without state": {"mlp/~/linear_0.w": ("matrix", (1,), (0,)), "mlp/~/linear_1.w": ("matrix", (1,), (0,))},
}


def measured(kind: str) -> tuple[Any, Any]:
    apply, parameters, outputs = KINDS[kind]()
    return ish.oracle(apply, (IMAGES, LABELS), parameters=parameters), outputs


@pytest.mark.parametrize("kind", KINDS)
def test_a_transformed_function_is_measured_in_inference_mode(kind: str) -> None:
    oracle, outputs = measured(kind)
    expected = float(jnp.mean(cross_entropy(outputs, jnp.asarray(LABELS))))
    value = oracle.loss(oracle.parameters)
    assert value == pytest.approx(expected, rel=1e-6), f"loss {value}, of the function itself {expected}"


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_their_biases_are_told_from_names(kind: str) -> None:
    groups = measured(kind)[0].groups
    weights = {g.name: (g.role, g.output_axes, g.input_axes) for g in groups if g.is_weight}
    assert weights == WEIGHTS[kind], f"{weights}"
    owners = {g.name: g.owner for g in groups if g.role == "bias" and g.owner is not None}
    assert owners == {name.removesuffix("w") + "b": name for name in weights}, f"{owners}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_relu_network_is_exact(kind: str) -> None:
    oracle, _ = measured(kind)
    defects = curvature_defects(oracle)
    assert exact_groups(oracle, defects) == {group.name for group in oracle.groups}, f"defects {defects}"
    estimate = ish.normalized_sharpness(oracle)
    assert estimate.method == "exact", f"{estimate}"
    assert estimate.value > 0, f"{estimate}"
